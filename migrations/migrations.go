package migrations

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

//go:embed common/*.sql server/*.sql agent/*.sql
var files embed.FS

// Set names one side's migrations.
type Set string

const (
	Server Set = "server" // the centre
	Agent  Set = "agent"  // a detection point
)

// Migration is one statement of the schema.
type Migration struct {
	Name     string // file name without .sql, such as 0001_sync_control
	SQL      string // one statement, without a semicolon at its end
	Hash     string // SHA-256 of the statement with its lists, in hex
	Optional bool   // it makes a trigger, and a deployment without the privilege does without
	// Listed: the statement has a list of columns in it. It is run again when the list has changed, over what it made
	// before.
	Listed bool
}

// Load returns the set's migrations in the order they are run. lists are what stands in the statements for a name in
// braces. The error names a set that does not exist.
func Load(set Set, lists map[string]string) ([]Migration, error) {
	if set != Server && set != Agent {
		return nil, fmt.Errorf("migrations: no set %q", set)
	}
	var names []string
	for name, list := range lists {
		names = append(names, "{"+name+"}", list)
	}
	fill := strings.NewReplacer(names...)
	var all []Migration
	for _, dir := range []string{"common", string(set)} {
		entries, err := files.ReadDir(dir)
		if err != nil {
			return nil, fmt.Errorf("migrations: %w", err)
		}
		for _, e := range entries {
			text, err := files.ReadFile(path.Join(dir, e.Name()))
			if err != nil {
				return nil, fmt.Errorf("migrations: %w", err)
			}
			all = append(all, parse(strings.TrimSuffix(e.Name(), ".sql"), string(text), fill))
		}
	}
	slices.SortFunc(all, func(a, b Migration) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func parse(name, text string, fill *strings.Replacer) Migration {
	filled := fill.Replace(text)
	sum := sha256.Sum256([]byte(filled))
	return Migration{
		Name:     name,
		SQL:      strings.TrimSpace(filled),
		Hash:     hex.EncodeToString(sum[:]),
		Optional: optional(text),
		Listed:   filled != text,
	}
}

// Owner is the set that alone has a migration of this name: "" for one of common/, or of none.
func Owner(name string) Set {
	for _, set := range []Set{Server, Agent} {
		if _, err := fs.Stat(files, path.Join(string(set), name+".sql")); err == nil {
			return set
		}
	}
	return ""
}

// Optional reports whether a migration of this name makes a trigger, which a deployment may do without.
func Optional(name string) bool {
	text, _ := files.ReadFile("common/" + name + ".sql")
	return optional(string(text))
}

func optional(text string) bool { return strings.HasPrefix(text, "-- optional:") }
