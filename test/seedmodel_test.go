package test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"syncgate/internal/harness/harnesstest"
	"syncgate/internal/pyliteral"
	"syncgate/rule"
)

// seedModel does with a row of sync_control what the original did, as docs/seed-semantics.md describes it. It evaluates
// the row's literals, prints values with str() and formats them into the statement's text. It tries the next operation
// when one fails, for whatever reason. A row that no operation takes is lost. The database runs the text and gets no
// parameters.
type seedModel struct {
	t  testing.TB
	db *DB

	// fallThrough makes the chain go on after an update that matches nothing. The original did not.
	fallThrough bool
}

// newSeedModel uses a session like that of syncgate, so that only the rule can make a difference.
func newSeedModel(t testing.TB, dsn, mode string) *seedModel {
	t.Helper()
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	cfg.ClientFoundRows = true // a matched row counts, even when nothing in it changes
	cfg.Params = map[string]string{"sql_mode": "'" + mode + "'", "time_zone": "'+00:00'"}
	return &seedModel{t: t, db: Open(t, cfg.FormatDSN())}
}

// errSeed is an exception of the original's own: an IndexError, a TypeError.
var errSeed = errors.New("an exception")

// upload applies rows by the row's downside and returns for each the word of the operation that took it, "" for none.
func (m *seedModel) upload(row rule.Row, rows []pyliteral.Tuple) []string {
	m.t.Helper()
	fields := m.fields(row)
	chain, _ := pyliteral.Text(m.eval(row.OperationType, "downside"))
	ops, statements := strings.Split(chain, "|"), seedItems(m.eval(row.SQL, "downside"))
	patches, sources := m.eval(row.PatchField, "downside"), m.eval(row.PatchFieldValue, "downside")
	taken := make([]string, len(rows))
	for i, values := range rows {
		failed := false
		for k, op := range ops {
			patch, source := seedOf(patches, len(statements), k, isSeedName),
				seedOf(sources, len(statements), k, isSeedPair)
			matched, err := m.operate(op, at(statements, k), fields, values, patch, source)
			if err != nil {
				failed = true
				continue
			}
			more := k+1 < len(ops)
			if seeks := op == "update" || op == "delete"; m.fallThrough && seeks && matched == 0 && (more || failed) {
				continue
			}
			taken[i] = op
			break
		}
	}
	return taken
}

// operate runs one operation for one row. The word chose a method, and each method ran the statement.
func (m *seedModel) operate(op string, statement pyliteral.Value, fields []string, row pyliteral.Tuple,
	patch, source []pyliteral.Value) (int64, error) {
	query, ok := pyliteral.Text(statement)
	if !ok || !slices.Contains([]string{"insert", "update", "delete", "replace"}, op) {
		return 0, errSeed
	}
	values, err := seedValues(query, fields, row, patch, source)
	if err == nil && len(values) > 0 {
		for i := range values {
			if text, ok := pyliteral.Text(values[i]); ok {
				// not the backslash
				values[i] = pyliteral.Unicode(strings.NewReplacer(`'`, `\'`, `"`, `\"`).Replace(text))
			}
		}
		query, err = seedFormat(query, values)
	}
	if err != nil {
		return 0, err
	}
	result, err := m.exec(query)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// seedValues are the values of one statement: those of the patch, or the whole row, from which the value of a first
// field id was dropped.
func seedValues(query string, fields []string, row pyliteral.Tuple, patch,
	source []pyliteral.Value) (values []pyliteral.Value, err error) {
	if len(patch)+len(source) == 0 {
		if len(fields) > 0 && fields[0] == "id" {
			row = row[1:]
		}
		return slices.Clone(row), nil
	}
	var all []pyliteral.Value // what fixed and carry give, too
	for i := range max(len(patch), len(source)) {
		kind, value := "transfer", pyliteral.Value(nil)
		if i < len(source) {
			pair := seedItems(source[i])
			kind, _ = pyliteral.Text(at(pair, 0))
			value = at(pair, 1)
		}
		if kind == "transfer" {
			name, _ := pyliteral.Text(at(patch, i))
			field := slices.Index(fields, name)
			if field < 0 || field >= len(row) {
				return nil, errSeed
			}
			value = row[field]
			values = append(values, value)
		}
		all = append(all, value)
	}
	if strings.Count(strings.ReplaceAll(query, "%%", ""), "%s") == len(all) {
		return all, nil
	}
	return values, nil
}

// download runs the row's upside for the content of a request, and returns the rows of each statement as texts.
func (m *seedModel) download(row rule.Row, content pyliteral.Value, now time.Time) (all [][]string, err error) {
	m.t.Helper()
	var values []pyliteral.Value
	switch {
	case row.Range == rule.Period:
		unit, number, _ := strings.Cut(row.RangeValue, ":")
		n, err := strconv.Atoi(strings.TrimSpace(number))
		// hours were multiplied by 24, too
		days, known := map[string]int{"hour": 1, "day": 1, "week": 7, "month": 30}[unit]
		if err != nil || !known {
			return nil, errSeed
		}
		since := now.AddDate(0, 0, -n*days)
		values = []pyliteral.Value{pyliteral.Str(rule.DateTime(since)), pyliteral.Str(rule.DateTime(now))}
	case row.UseCarriedState:
		for _, pairs := range seedItems(content) {
			for _, pair := range seedItems(pairs) {
				values = append(values, at(seedItems(pair), 1))
			}
		}
		if len(values) == 0 {
			return nil, errSeed
		}
	}
	for _, statement := range seedItems(m.eval(row.SQL, "upside")) {
		query, _ := pyliteral.Text(statement)
		if len(values) > 0 {
			if query, err = seedFormat(query, values); err != nil {
				return nil, err
			}
		}
		rows, err := m.query(query)
		if err != nil {
			return nil, err
		}
		all = append(all, rows)
	}
	return all, nil
}

// fields are those of sync_field, or all columns of the table.
func (m *seedModel) fields(row rule.Row) (names []string) {
	for _, v := range seedItems(m.eval(row.Field, "")) {
		name, _ := pyliteral.Text(v)
		names = append(names, name)
	}
	if names == nil {
		return column(m.t, m.db, "SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE() "+
			"AND table_name = '"+
			row.Table+"' ORDER BY ordinal_position")
	}
	return names
}

// eval is the value of a column, or what a dict in it has for a phase.
func (m *seedModel) eval(column, phase string) pyliteral.Value {
	if strings.TrimSpace(column) == "" {
		return nil
	}
	n, err := pyliteral.Parse([]byte(column), pyliteral.Limits{})
	if err != nil {
		m.t.Fatalf("%s: %v", column, err)
	}
	if phase == "" || n.Value == nil {
		return n.Value
	}
	if n = n.Get(phase); n == nil {
		return nil
	}
	return n.Value
}

// seedItems are the elements of a list; a value without brackets is a list of itself, as ("x") was meant.
func seedItems(v pyliteral.Value) []pyliteral.Value {
	switch v := v.(type) {
	case nil:
		return nil
	case pyliteral.Tuple:
		return v
	case pyliteral.List:
		return v
	}
	return []pyliteral.Value{v}
}

// seedOf is the k-th of n statements' list in a column. The outer list may be missing where there is one statement, and
// the inner one where there is one element.
func seedOf(column pyliteral.Value, n, k int, isElement func(pyliteral.Value) bool) []pyliteral.Value {
	all := seedItems(column)
	switch v := at(all, k); {
	case isElement(column):
		return []pyliteral.Value{column}
	case n == 1 && isElement(at(all, 0)):
		return all
	case isElement(v):
		return []pyliteral.Value{v}
	default:
		return seedItems(v)
	}
}

func isSeedName(v pyliteral.Value) bool { _, ok := pyliteral.Text(v); return ok }

func isSeedPair(v pyliteral.Value) bool { return len(seedItems(v)) == 2 && isSeedName(seedItems(v)[0]) }

// at is an element, or nil behind the end.
func at(all []pyliteral.Value, i int) pyliteral.Value {
	if i < len(all) {
		return all[i]
	}
	return nil
}

// seedFormat is Python's query % tuple(values), where '%s' given None was NULL without quotes.
func seedFormat(query string, values []pyliteral.Value) (string, error) {
	var out strings.Builder
	for i := 0; i < len(query); i++ {
		if query[i] != '%' {
			out.WriteByte(query[i])
			continue
		}
		if i++; i == len(query) {
			return "", errSeed // incomplete format
		}
		if query[i] == '%' {
			out.WriteByte('%')
			continue
		}
		if len(values) == 0 {
			return "", errSeed // not enough arguments
		}
		value := values[0]
		values = values[1:]
		_, whole := value.(int64)
		switch {
		case query[i] == 'd' && whole:
		case query[i] != 's':
			return "", errSeed // unsupported format character, or no number
		}
		if value != nil {
			out.WriteString(seedStr(value))
			continue
		}
		head := out.String()
		if quote := head[len(head)-1]; (quote == '\'' || quote == '"') && i+1 < len(query) && query[i+1] == quote {
			out.Reset()
			out.WriteString(head[:len(head)-1])
			i++
		}
		out.WriteString("NULL")
	}
	if len(values) > 0 {
		return "", errSeed // not all arguments converted
	}
	return out.String(), nil
}

// seedStr is Python 2's str(); a text beyond ASCII makes the whole statement a unicode, which changes nothing.
func seedStr(v pyliteral.Value) string {
	if text, ok := pyliteral.Text(v); ok {
		return text
	}
	switch x := v.(type) {
	case bool:
		return map[bool]string{true: "True", false: "False"}[x]
	case float64:
		text := strconv.FormatFloat(x, 'g', 12, 64)
		if !strings.ContainsAny(text, ".e") {
			text += ".0"
		}
		return text
	case pyliteral.TimeDelta:
		text, days := fmt.Sprintf("%d:%02d:%02d", x.Seconds/3600, x.Seconds/60%60, x.Seconds%60), ""
		switch {
		case x.Days == 1 || x.Days == -1:
			days = fmt.Sprintf("%d day, ", x.Days)
		case x.Days != 0:
			days = fmt.Sprintf("%d days, ", x.Days)
		}
		return days + text
	}
	value, _ := pyliteral.SQL(v)
	return fmt.Sprint(value)
}

// exec runs a text. It fails the test on any error that is not the database's.
func (m *seedModel) exec(query string) (sql.Result, error) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), harnesstest.Patience)
	defer cancel()
	result, err := m.db.ExecContext(ctx, query)
	return result, m.refused(err, query)
}

// query returns each row of a text's result as one text.
func (m *seedModel) query(query string) (all []string, err error) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), harnesstest.Patience)
	defer cancel()
	rows, err := m.db.QueryContext(ctx, query)
	if err != nil {
		return nil, m.refused(err, query)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		m.t.Fatal(err)
	}
	cells, into := make([]sql.NullString, len(columns)), make([]any, len(columns))
	for i := range cells {
		into[i] = &cells[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			m.t.Fatal(err)
		}
		var texts []string
		for _, c := range cells {
			if !c.Valid {
				c.String = "NULL"
			}
			texts = append(texts, c.String)
		}
		all = append(all, strings.Join(texts, " | "))
	}
	return all, m.refused(rows.Err(), query)
}

func (m *seedModel) refused(err error, query string) error {
	if refused := (*mysql.MySQLError)(nil); err != nil && !errors.As(err, &refused) {
		m.t.Fatalf("%v in %s", err, query)
	}
	return err
}

// column is the first column of a query as text, in its order.
func column(t testing.TB, db *DB, query string) (all []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), harnesstest.Patience)
	defer cancel()
	rows, err := db.QueryContext(ctx, query)
	if err != nil {
		t.Fatalf("%v in %s", err, query)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		all = append(all, text)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}
