package migrations

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
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
	Hash     string // SHA-256 of the file in hex
	Optional bool   // a deployment without the privilege does without
}

// Load returns the set's migrations in the order they are run. The error names a set that does not exist.
func Load(set Set) ([]Migration, error) {
	if set != Server && set != Agent {
		return nil, fmt.Errorf("migrations: no set %q", set)
	}
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
			all = append(all, parse(strings.TrimSuffix(e.Name(), ".sql"), string(text)))
		}
	}
	slices.SortFunc(all, func(a, b Migration) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func parse(name, text string) Migration {
	sum := sha256.Sum256([]byte(text))
	return Migration{
		Name:     name,
		SQL:      strings.TrimSpace(text),
		Hash:     hex.EncodeToString(sum[:]),
		Optional: strings.HasPrefix(text, "-- optional:"),
	}
}
