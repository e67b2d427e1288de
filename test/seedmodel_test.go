package test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"syncgate/internal/pyliteral"

	"syncgate/internal/harness/harnesstest"
)

// seedModel does with a rule what the original did, as docs/seed-semantics.md describes it. It prints values with str()
// and formats them into the statement's text. It tries the next operation only when one fails. A row that no operation
// takes is lost. The database runs the text and gets no parameters.
type seedModel struct {
	t  testing.TB
	db *harnesstest.DB

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
	return &seedModel{t: t, db: harnesstest.Open(t, cfg.FormatDSN())}
}

// seedFormat is Python's sql % tuple(values), where '%s' given None was NULL without quotes. Rules use only %s, %d and
// %%.
func seedFormat(t testing.TB, query string, values []pyliteral.Value) string {
	t.Helper()
	var out strings.Builder
	for i := 0; i < len(query); i++ {
		if query[i] != '%' || i+1 == len(query) {
			out.WriteByte(query[i])
			continue
		}
		i++
		if query[i] == '%' {
			out.WriteByte('%')
			continue
		}
		if len(values) == 0 {
			t.Fatalf("not enough arguments for format string: %s", query)
		}
		value := values[0]
		values = values[1:]
		if value != nil {
			out.WriteString(seedStr(t, value))
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
		t.Fatalf("not all arguments converted during string formatting: %s", query)
	}
	return out.String()
}

// seedStr is Python 2's str(); a text beyond ASCII makes the whole statement a unicode, which changes nothing.
func seedStr(t testing.TB, v pyliteral.Value) string {
	t.Helper()
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
		if x.Days != 0 {
			days = fmt.Sprintf("%d day, ", x.Days)
		}
		return days + text
	}
	value, ok := pyliteral.SQL(v)
	if !ok {
		t.Fatalf("%#v is no SQL value", v)
	}
	return fmt.Sprint(value)
}

// upload applies rows by a chain and returns for each row the operation that took it, "" for none.
func (m *seedModel) upload(r *seedRule, rows []pyliteral.Tuple) []string {
	m.t.Helper()
	taken := make([]string, len(rows))
	for i, row := range rows {
		refused := false
		for k, op := range r.ops {
			result, err := m.exec(seedFormat(m.t, r.sql[k], r.values(k, row)))
			if err != nil {
				refused = true
				continue
			}
			matched, err := result.RowsAffected()
			if err != nil {
				m.t.Fatal(err)
			}
			if seeks := op == "update" || op == "delete"; m.fallThrough && seeks && matched == 0 && (k+1 < len(r.ops) || refused) {
				continue
			}
			taken[i] = op
			break
		}
	}
	return taken
}

// exec runs a text. It fails the test on any error that is not the database's.
func (m *seedModel) exec(query string) (sql.Result, error) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), harnesstest.Patience)
	defer cancel()
	result, err := m.db.ExecContext(ctx, query)
	var refused *mysql.MySQLError
	if err != nil && !errors.As(err, &refused) {
		m.t.Fatalf("%v in %s", err, query)
	}
	return result, err
}

// download runs an upside statement for a state or for the two ends of a period, and returns the first column.
func (m *seedModel) download(query string, values ...pyliteral.Value) []string {
	m.t.Helper()
	return column(m.t, m.db, seedFormat(m.t, query, values))
}

// seedPeriod is how far a period went back.
func seedPeriod(t testing.TB, value string) time.Duration {
	t.Helper()
	unit, number, _ := strings.Cut(value, ":")
	n, err := strconv.Atoi(number)
	days, known := map[string]int{"hour": 1, "day": 1, "week": 7, "month": 30}[unit] // the original multiplied hours by 24, like days
	if err != nil || !known {
		t.Fatal(value)
	}
	return time.Duration(n*days) * 24 * time.Hour
}

// column is the first column of a query as text, in its order.
func column(t testing.TB, db *harnesstest.DB, query string) (all []string) {
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

// seedRule is the server row of a seed-era upload with the fields seedFields.
type seedRule struct {
	ops    []string
	sql    []string
	fields [][]string
}

var seedFields = []string{"k", "n", "s", "d", "x", "ti"}

// values returns the values that fill the placeholders of an operation.
func (r *seedRule) values(op int, row pyliteral.Tuple) []pyliteral.Value {
	var all []pyliteral.Value
	for _, field := range r.fields[op] {
		for i, name := range seedFields {
			if name == field {
				all = append(all, row[i])
			}
		}
	}
	return all
}

// literals are the columns of sync_control, as Python 2 prints them.
func (r *seedRule) literals(t testing.TB) (fields, ops, sql, patch, from string) {
	t.Helper()
	show := func(v pyliteral.Value) string {
		text, err := pyliteral.Append(nil, v, pyliteral.Python2)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	names := func(list []string) (all pyliteral.Tuple) {
		for _, name := range list {
			all = append(all, pyliteral.Str(name))
		}
		return all
	}
	var patches, sources pyliteral.Tuple
	for _, list := range r.fields {
		var entries pyliteral.Tuple
		for range list {
			entries = append(entries, pyliteral.Tuple{pyliteral.Str("transfer"), nil})
		}
		patches, sources = append(patches, names(list)), append(sources, entries)
	}
	phases := func(v pyliteral.Value) string {
		return fmt.Sprintf("{'upside': None, 'downside': %s, 'update_state': None}", show(v))
	}
	return show(names(seedFields)), phases(pyliteral.Str(strings.Join(r.ops, "|"))), phases(names(r.sql)), phases(patches), phases(sources)
}
