package demo

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"
)

// digest stands for the rows of a table in whatever order: the SHA-256 of each by its key.
type digest map[string][sha256.Size]byte

// String is short enough for a summary line: how many rows, and the sum of their hashes' beginnings.
func (d digest) String() string {
	var sum uint64
	for _, hash := range d {
		sum += binary.BigEndian.Uint64(hash[:])
	}
	return fmt.Sprintf("%s rows %016x", thousands(len(d)), sum)
}

// digestOf reads a whole table with the plain driver, past all of syncgate's own code.
// Its first column is the key. The query has an argument so that the server answers in
// the binary protocol: as text a FLOAT would lose digits, and so differences.
func digestOf(ctx context.Context, db *sql.DB, table string, columns []column) (digest, error) {
	names := make([]string, len(columns))
	values, scan := make([]any, len(columns)), make([]any, len(columns))
	for i, c := range columns {
		names[i], scan[i] = "`"+c.name+"`", &values[i]
	}
	rows, err := db.QueryContext(ctx, "SELECT "+strings.Join(names, ", ")+" FROM `"+table+"` WHERE ? = 1", 1)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	d := digest{}
	var text []byte
	for rows.Next() {
		if err := rows.Scan(scan...); err != nil {
			return nil, err
		}
		text = text[:0]
		for _, v := range values {
			text = appendValue(text, v)
		}
		d[fmt.Sprint(values[0])] = sha256.Sum256(text)
	}
	return d, rows.Err()
}

// appendValue writes a value so that no two different rows give the same bytes.
func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, 0)
	case []byte:
		return append(binary.AppendUvarint(append(b, 1), uint64(len(v))), v...)
	case float64:
		return binary.BigEndian.AppendUint64(append(b, 2), math.Float64bits(v))
	case float32:
		return binary.BigEndian.AppendUint32(append(b, 3), math.Float32bits(v))
	default: // a whole number
		return fmt.Appendf(append(b, 4), "%T %v\x00", v, v)
	}
}

// differences names the rows in which two tables differ.
func differences(centre, point digest) []string {
	var all []string
	for id, hash := range centre {
		switch other, ok := point[id]; {
		case !ok:
			all = append(all, "id "+id+" is only at the centre")
		case other != hash:
			all = append(all, "id "+id+" differs")
		}
	}
	for id := range point {
		if _, ok := centre[id]; !ok {
			all = append(all, "id "+id+" is only at the point")
		}
	}
	slices.Sort(all)
	return all
}
