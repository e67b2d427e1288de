package harness

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Rows stands for the rows of a table, in whatever order: a hash of each row by its first column.
type Rows map[string][sha256.Size]byte

// ReadRows reads a whole table with the plain driver, independently of syncgate's own code. The first column is the
// key.
func ReadRows(ctx context.Context, db *sql.DB, table string) (Rows, error) {
	// The argument makes the server answer in the binary protocol: as text a FLOAT would lose digits.
	rows, err := db.QueryContext(ctx, "SELECT * FROM `"+table+"` WHERE ? = 1", 1)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	values, scan := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		scan[i] = &values[i]
	}
	all := Rows{}
	for rows.Next() {
		if err := rows.Scan(scan...); err != nil {
			return nil, err
		}
		// JSON has bytes as base64 and numbers exactly, so that no two rows give the same text.
		text, err := json.Marshal(values)
		if err != nil {
			return nil, err
		}
		all[fmt.Sprint(values[0])] = sha256.Sum256(text)
	}
	return all, rows.Err()
}

// Sum is one number for all rows.
func (r Rows) Sum() (sum uint64) {
	for _, hash := range r {
		sum += binary.BigEndian.Uint64(hash[:])
	}
	return sum
}

// Differences are the keys of the rows that are only in r or only in other, or differ.
func (r Rows) Differences(other Rows) []string {
	all := maps.Clone(r)
	maps.Copy(all, other)
	maps.DeleteFunc(all, func(key string, _ [sha256.Size]byte) bool { return r[key] == other[key] })
	return slices.Sorted(maps.Keys(all))
}
