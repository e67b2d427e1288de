package store

import (
	"database/sql/driver"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

// run executes a statement once and returns its rows.
func (r *reader) run(i int, st *rule.Statement, pages *paging, begin bool) (int, error) {
	if err := r.bind(st, &r.env); err != nil {
		return 0, err
	}
	res, err := r.c.query(r.ctx, st.SQL)
	if err != nil {
		return 0, &statementError{sql: st.SQL, err: err}
	}
	cols := columnsOf(res)
	if r.width == 0 || begin {
		r.width = len(cols)
	}
	if len(cols) != r.width {
		return 0, r.abandon(res, ErrAltered)
	}
	if r.cursor == nil {
		err = r.findCursor(pages, cols)
	}
	r.instants = r.instants[:0]
	for k := range cols {
		if cols[k].Type == rowset.Timestamp {
			r.instants = append(r.instants, k)
		}
	}
	if begin && err == nil {
		err = r.announce(i, pages, cols)
	}
	if err != nil {
		return 0, r.abandon(res, err)
	}
	n := 0
	dest, values := make([]driver.Value, len(cols)), make([]any, len(cols))
	for {
		if err := res.Next(dest); errors.Is(err, io.EOF) {
			return n, res.Close()
		} else if err != nil {
			_ = res.Close() // err is the one to return
			return n, &statementError{sql: st.SQL, err: err}
		}
		r.texts.convertRow(values, dest, cols)
		for _, i := range r.instants {
			values[i] = convert(values[i], r.session, r.shown)
		}
		for i := range cols {
			if f, ok := values[i].(float64); ok && r.env.Wall {
				values[i] = cols[i].printed(f)
			}
		}
		if pages.only != nil && !pages.only(values) {
			n++
			continue
		}
		if origin, ok := values[max(0, pages.hidden-1)].(string); ok && pages.hidden > 0 && r.env.Origin == "" {
			if r.page.Origins == nil {
				r.page.Origins = map[string]bool{}
			}
			r.page.Origins[origin] = true
		}
		err := r.sink.Row(values[pages.hidden:])
		if errors.Is(err, ErrFull) {
			return n, r.abandon(res, err)
		}
		n++
		r.page.Rows++
		if r.p.Paged() && pages.only == nil && (err == nil || errors.Is(err, ErrEnough)) {
			r.remember(values)
		}
		if err != nil {
			return n, r.abandon(res, err)
		}
	}
}

// announce calls the sink's Begin.
func (r *reader) announce(i int, pages *paging, cols []column) error {
	r.begun = true
	if s, ok := r.sink.(Stateful); ok && r.p.Paged() {
		s.State(r.soFar)
	}
	infos := make([]rowset.Column, len(cols))
	for k, c := range cols {
		infos[k] = c.Column
	}
	return sinkError(r.sink.Begin(i, infos[pages.hidden:]))
}

// findCursor finds the columns of the state among those of the rows.
func (r *reader) findCursor(pages *paging, cols []column) error {
	r.cursor = make([]int, 0, len(pages.columns))
	for _, name := range pages.columns {
		at := -1
		for k, c := range cols {
			if strings.EqualFold(c.Name, name) {
				at = k
			}
		}
		if at < 0 {
			return notFromDB(mismatch("the rows have no column %s to go on from", name))
		}
		r.cursor = append(r.cursor, at)
	}
	return nil
}

func (r *reader) remember(values []any) {
	r.last = r.last[:0]
	for _, at := range r.cursor {
		r.last = rowset.AppendCopy(r.last, values[at:at+1])
		v := &r.last[len(r.last)-1]
		switch text, ok := (*v).(string); {
		case !ok || !slices.Contains(r.instants, at):
		case r.p.Form == rule.Generated:
			*v = r.shown.utc(text)
		case !r.env.Wall:
			*v = rowset.Instant(text)
		}
	}
}

// abandon ends a result early. It reads and drops the rest of a page. The rest of an unpaged result may be millions of
// rows, so that the connection is closed instead.
func (r *reader) abandon(res driver.Rows, err error) error {
	if errors.Is(err, ErrEnough) && r.p.Paged() {
		return errors.Join(ErrEnough, res.Close())
	}
	r.c.broken = true
	return sinkError(err)
}

func sinkError(err error) error {
	if err == nil || errors.Is(err, ErrEnough) {
		return err
	}
	return notFromDB(err)
}

// column says how the driver's values of a column become SQL values.
type column struct {
	rowset.Column
	unsigned bool
	digits   int // of a FLOAT or DOUBLE with a fixed number behind the point; else -1
}

// printed is the number that the database prints for a FLOAT or DOUBLE. The FLOAT nearest to 0.1 is 0.1.
func (c *column) printed(f float64) float64 {
	text := ""
	switch {
	case c.digits >= 0:
		text = strconv.FormatFloat(f, 'f', c.digits, 64)
	case c.Type == "FLOAT":
		text = strconv.FormatFloat(f, 'g', 6, 64)
	default:
		return f
	}
	f, _ = strconv.ParseFloat(text, 64) // which is the text of a float64
	return f
}

func columnsOf(rows driver.Rows) []column {
	names := rows.Columns()
	cols := make([]column, len(names))
	types := rows.(interface { // as mysql.Rows are
		driver.RowsColumnTypeDatabaseTypeName
		driver.RowsColumnTypePrecisionScale
	})
	for i, name := range names {
		kind := types.ColumnTypeDatabaseTypeName(i)
		cols[i] = column{
			Column:   rowset.Column{Name: name, Type: kind, Binary: binaryType(strings.ToLower(kind))},
			unsigned: kind == "UNSIGNED BIGINT",
			digits:   -1,
		}
		if _, scale, ok := types.ColumnTypePrecisionScale(i); ok && scale < 31 { // 31: not fixed
			cols[i].digits = int(scale)
		}
	}
	return cols
}

// arena holds the text of many rows, so that a row needs fewer allocations.
type arena struct{ b *strings.Builder }

const arenaBytes = 64 << 10 // of each piece; the first is a sixteenth, because most results are small

func (a *arena) text(v []byte) string {
	if len(v) > arenaBytes/16 {
		return string(v)
	}
	if a.b == nil || a.b.Cap()-a.b.Len() < len(v) {
		size := arenaBytes
		if a.b == nil {
			size = arenaBytes / 16
		}
		a.b = &strings.Builder{}
		a.b.Grow(size)
	}
	from := a.b.Len()
	a.b.Write(v)
	return a.b.String()[from:]
}

// convertRow converts the driver's values to SQL values: text to string, bytes to []byte in the driver's buffer.
func (a *arena) convertRow(values []any, dest []driver.Value, cols []column) {
	for i, v := range dest {
		switch v := v.(type) {
		case []byte:
			values[i] = a.convertBytes(v, &cols[i])
		case float32:
			values[i] = float64(v)
		default:
			values[i] = v
		}
	}
}

func (a *arena) convertBytes(v []byte, c *column) any {
	switch {
	case c.Binary:
		return v
	case c.unsigned: // the driver returns a number over MaxInt64 as text
		if n, err := strconv.ParseUint(string(v), 10, 64); err == nil {
			return n
		}
	}
	return a.text(v)
}
