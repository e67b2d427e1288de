package rule

import (
	"fmt"
	"slices"
	"strings"
)

// baseName is the part of db.table that names the table.
func baseName(table string) string { return table[strings.LastIndexByte(table, '.')+1:] }

// index is the place of a name among the names, or -1.
func index(names []string, name string) int {
	return slices.IndexFunc(names, func(n string) bool { return sameName(n, name) })
}

func contains(names []string, name string) bool { return index(names, name) >= 0 }

// anyColumn wants each column of a table.
func anyColumn(*Column) bool { return true }

func allIn(names, in []string) bool {
	return !slices.ContainsFunc(names, func(n string) bool { return !contains(in, n) })
}

func wordSet(words string) map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(words) {
		set[w] = true
	}
	return set
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// hint proposes a name in place of one that is not among the names.
func hint(name string, names []string) string {
	if n := Nearest(name, names); n != "" {
		return "did you mean " + n + "?"
	}
	if len(names) > 0 && len(names) <= 12 {
		return "there are " + strings.Join(names, ", ")
	}
	return ""
}

// Nearest is the name closest to the given one, or "" when none is close.
func Nearest(name string, names []string) (best string) {
	limit := 1 + min(len(name)/4, 2)
	for _, n := range names {
		if d := distance(strings.ToLower(name), strings.ToLower(n)); d <= limit {
			best, limit = n, d-1
		}
	}
	return best
}

// maxName is the longest word that is compared, bytes.
const maxName = 64

// distance is the number of letters to insert, drop, change or swap with their neighbour to make b of a (optimal string
// alignment).
func distance(a, b string) int {
	if len(a) > maxName || len(b) > maxName {
		return maxName
	}
	var d [maxName + 1][maxName + 1]uint8
	for i := range len(a) + 1 {
		for j := range len(b) + 1 {
			if i == 0 || j == 0 {
				d[i][j] = uint8(i + j)
				continue
			}
			d[i][j] = min(d[i-1][j], d[i][j-1], d[i-1][j-1]) + 1
			if a[i-1] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-1][j-1])
			}
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				d[i][j] = min(d[i][j], d[i-2][j-2]+1)
			}
		}
	}
	return int(d[len(a)][len(b)])
}
