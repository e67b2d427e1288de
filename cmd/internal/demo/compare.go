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

// digest stands for the rows of a table in whatever order: the SHA-256 of each row,
// added up in four lanes modulo 2^64. Equal tables have equal digests; that two
// different ones do by chance is as unlikely as for SHA-256 itself, and nobody here
// is out to forge one.
type digest struct {
	rows int
	sum  [4]uint64
	byID map[string][4]uint64
}

// identical says whether both tables hold the same rows.
func (d *digest) identical(o *digest) bool { return d.rows == o.rows && d.sum == o.sum }

// String is short enough for a summary line.
func (d *digest) String() string { return fmt.Sprintf("%016x", d.sum[0]^d.sum[1]^d.sum[2]^d.sum[3]) }

// digestOf reads a whole table with the plain driver, past all of syncgate's own code.
// Its first column is the key. The query has an argument so that the server answers in
// the binary protocol: as text a FLOAT would lose digits, and so differences.
func digestOf(ctx context.Context, db *sql.DB, table string, columns []column) (*digest, error) {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = "`" + c.name + "`"
	}
	rows, err := db.QueryContext(ctx, "SELECT "+strings.Join(names, ", ")+" FROM `"+table+"` WHERE ? = 1", 1)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	d := &digest{byID: map[string][4]uint64{}}
	values, scan := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		scan[i] = &values[i]
	}
	var text []byte
	for rows.Next() {
		if err := rows.Scan(scan...); err != nil {
			return nil, err
		}
		text = text[:0]
		for _, v := range values {
			text = appendValue(text, v)
		}
		hash := sha256.Sum256(text)
		var lanes [4]uint64
		for i := range lanes {
			lanes[i] = binary.BigEndian.Uint64(hash[8*i:])
			d.sum[i] += lanes[i]
		}
		d.rows++
		d.byID[fmt.Sprint(values[0])] = lanes
	}
	return d, rows.Err()
}

// appendValue writes a value so that no two different rows give the same bytes.
func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, 0)
	case int64:
		return binary.BigEndian.AppendUint64(append(b, 1), uint64(v))
	case uint64:
		return binary.BigEndian.AppendUint64(append(b, 2), v)
	case float64:
		return binary.BigEndian.AppendUint64(append(b, 3), math.Float64bits(v))
	case float32:
		return binary.BigEndian.AppendUint32(append(b, 4), math.Float32bits(v))
	case []byte:
		return append(binary.AppendUvarint(append(b, 5), uint64(len(v))), v...)
	default:
		return fmt.Appendf(append(b, 6), "%T %v", v, v)
	}
}

// differences names up to most rows in which two tables differ.
func differences(centre, point *digest, most int) []string {
	var out []string
	for id, c := range centre.byID {
		if p, ok := point.byID[id]; !ok {
			out = append(out, "id "+id+" is only at the centre")
		} else if p != c {
			out = append(out, "id "+id+" differs")
		}
	}
	for id := range point.byID {
		if _, ok := centre.byID[id]; !ok {
			out = append(out, "id "+id+" is only at the point")
		}
	}
	slices.Sort(out)
	if len(out) > most {
		out = append(out[:most], fmt.Sprintf("and %d more", len(out)-most))
	}
	return out
}
