package test

import (
	"fmt"
	"strings"
	"testing"

	"syncgate/internal/pyliteral"
	"syncgate/rule"
)

// seedCase is one row of sync_control as the original's DBAs wrote it, and a packet for it.
type seedCase struct {
	name    string
	row     rule.Row
	rows    []pyliteral.Tuple // of an upload
	content pyliteral.Value   // of a download
	// the row of docs/seed-semantics.md that says how and why; "": the original and syncgate do the same
	differs string
}

// seedRule is a row in parts.
type seedRule struct {
	fields  []string // nil: sync_field is empty
	words   string   // the chain in sync_operation_type; "": the verbs of the statements
	sql     []string
	patch   [][]string // nil: the whole row fills each statement
	sources [][]pyliteral.Tuple
}

// seedSpelling is one way to write the same literals.
type seedSpelling struct {
	name  string
	text  func(s string) string
	list  func(items []string) string
	dict  func(phase, value string) string // value is that of the phase
	empty string                           // sync_field without fields
}

// seedSpellings are the ways that occur in the field.
var seedSpellings = []seedSpelling{
	{"tuples", pythonText, pythonTuple, func(phase, value string) string {
		all := map[string]string{"upside": "None", "downside": "None"}
		all[phase] = value
		return fmt.Sprintf("{'upside': %s, 'downside': %s, 'update_state': None}", all["upside"], all["downside"])
	}, ""},
	{"lists, double quotes and u", func(s string) string {
		return `u"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
	},
		func(items []string) string { return "[" + strings.Join(items, ", ") + "]" },
		func(phase, value string) string { return fmt.Sprintf(`{u"%s": %s}`, phase, value) }, "[]"},
	{"brackets around it, no comma behind one element", func(s string) string { return "(" + pythonText(s) + ")" },
		func(items []string) string { return "(" + strings.Join(items, ",") + ")" },
		func(phase, value string) string { return fmt.Sprintf("( {'%s':%s} )", phase, value) }, "()"},
	{"joined and escaped texts, another key, a comment", func(s string) string {
		half := len(s) / 2
		escaped := strings.NewReplacer("'", `\x27`, "%", `\045`, " ", "\\x20").Replace(s[half:])
		return pythonText(s[:half]) + "\n   '" + escaped + "'"
	}, pythonTuple, func(phase, value string) string {
		return fmt.Sprintf("{'remark': 'by hand', # what it is\n '%s': %s,\n}", phase, value)
	}, "None"},
}

func pythonText(s string) string {
	text, _ := pyliteral.Append(nil, pyliteral.Str(s), pyliteral.Python2)
	return string(text)
}

func pythonTuple(items []string) string {
	if len(items) == 1 {
		return "(" + items[0] + ",)"
	}
	return "(" + strings.Join(items, ", ") + ")"
}

// row writes the rule in a spelling.
func (r *seedRule) row(phase string, in seedSpelling) rule.Row {
	row := rule.Row{ID: 1, Table: "seed", Type: rule.Upload, User: rule.Server, PointNo: pointName, Enabled: true,
		Field: in.empty}
	texts := func(all []string) (out []string) {
		for _, s := range all {
			out = append(out, in.text(s))
		}
		return out
	}
	if r.fields != nil {
		row.Field = in.list(texts(r.fields))
	}
	words := r.words
	if words == "" {
		var verbs []string
		for _, query := range r.sql {
			verb, _, _ := strings.Cut(query, " ")
			verbs = append(verbs, verb)
		}
		words = strings.Join(verbs, "|")
	}
	row.OperationType, row.SQL = in.dict(phase, in.text(words)), in.dict(phase, in.list(texts(r.sql)))
	if r.patch != nil {
		var names, sources []string
		for k, fields := range r.patch {
			var pairs []string
			for i := range fields {
				pair := pyliteral.Tuple{pyliteral.Str("transfer"), nil}
				if r.sources != nil {
					pair = r.sources[k][i]
				}
				value, _ := pyliteral.Append(nil, pair[1], pyliteral.Python2)
				pairs = append(pairs, in.list([]string{in.text(string(pair[0].(pyliteral.Str))), string(value)}))
			}
			names, sources = append(names, in.list(texts(fields))), append(sources, in.list(pairs))
		}
		row.PatchField, row.PatchFieldValue = in.dict(phase, in.list(names)), in.dict(phase, in.list(sources))
	}
	return row
}

// The fields that the packets of most cases have, and the statements with the fields that fill them.
var (
	seedFields     = []string{"k", "n", "s", "d"}
	seedStatements = map[string]struct {
		sql    string
		fields []string
	}{
		"insert":  {"insert into seed (k,n,s,d) values ('%s','%s','%s','%s')", seedFields},
		"update":  {"update seed set n='%s',s='%s',d='%s' where k='%s'", []string{"n", "s", "d", "k"}},
		"replace": {"replace into seed (k,n,s,d) values ('%s',%s,\"%s\",'%s')", seedFields},
		"delete":  {"delete from seed where k='%s' and n='%s'", []string{"k", "n"}},
	}
	seedChains = [][]string{{"insert"}, {"update"}, {"replace"}, {"delete"}, {"insert", "update"}, {"insert", "delete"},
		{"insert", "replace"},
		{"insert", "update", "delete"}, {"update", "insert"}, {"delete", "insert"}, {"update", "replace"},
		{"update", "delete", "insert"}}
)

func chainOf(ops ...string) *seedRule {
	r := &seedRule{fields: seedFields}
	for _, op := range ops {
		r.sql, r.patch = append(r.sql, seedStatements[op].sql), append(r.patch, seedStatements[op].fields)
	}
	return r
}

const (
	unmatchedFirst = "an `update` or `delete` in front that matches nothing"
	hourRange      = "`hour:6`"
)

// differs is what the document says of a chain whose first operations may match nothing.
func differs(ops ...string) string {
	if len(ops) > 1 && (ops[0] == "update" || ops[0] == "delete") {
		return unmatchedFirst
	}
	return ""
}

func u(s string) pyliteral.Value { return pyliteral.Unicode(s) }

// seedPacket are rows that the original took or lost: a new one and one that is there, NULLs, another type, quotes, a
// value that is too long, a unique value that is taken.
func seedPacket() []pyliteral.Tuple {
	day := pyliteral.DateTime{Year: 2026, Month: 1, Day: 2, Microsecond: 7}
	return []pyliteral.Tuple{
		{u("a"), int64(5), u("new"), day}, {u("b"), pyliteral.Long(1), u(`it's "it"`), nil},
		{pyliteral.Str("c"), u("7"), nil, u("2026-01-02 03:04:05")},
		{u("d"), nil, nil, nil}, {u("far too long for it"), int64(1), nil, nil},
		{u("中"), int64(-1), u("%s % 中 😀 :k ?"), pyliteral.Date{Year: 2024, Month: 2, Day: 29}},
		{u("f"), int64(1), u("new"), nil}, {u("g"), 1.5, 100.0, nil}, {u("h"), int64(1), 1e16, nil},
		{u("e"), int64(2), pyliteral.Decimal("41.0"), nil},
		{u("i"), u("many"), nil, nil}, {u("j"), int64(1), int64(7), nil},
		{u("k"), int64(1), pyliteral.TimeDelta{Seconds: 3723}, nil},
	}
}

// seedUploads are the rules of uploads, and of the downside of downloads, which a point runs in the same way.
func seedUploads() (all []seedCase) {
	add := func(name, differs string, r *seedRule, rows ...pyliteral.Tuple) {
		for _, in := range seedSpellings {
			all = append(all, seedCase{name: name + ", " + in.name, row: r.row("downside", in), rows: rows,
				differs: differs})
		}
	}
	for _, ops := range seedChains {
		add(strings.Join(ops, "|"), differs(ops...), chainOf(ops...), seedPacket()...)
	}
	for _, ops := range seedChains[:7] {
		client := seedCase{name: strings.Join(ops, "|") + " at a point",
			row: chainOf(ops...).row("downside", seedSpellings[0]), rows: seedPacket(), differs: differs(ops...)}
		client.row.Type, client.row.User = rule.Download, rule.Client
		all = append(all, client)
	}
	add("extra values behind the fields", "", chainOf("insert"), append(seedPacket()[0], int64(9), u("x")))

	// The whole row, in the order of sync_field or of the table.
	turned := []string{"n", "s", "d", "k"}
	whole := &seedRule{fields: turned, sql: []string{"insert into seed (n,s,d,k) values ('%s','%s','%s','%s')",
		seedStatements["update"].sql}}
	var rows []pyliteral.Tuple
	for _, row := range seedPacket() {
		rows = append(rows, pyliteral.Tuple{row[1], row[2], row[3], row[0]})
	}
	add("the whole row", "", whole, rows...)
	full := pyliteral.Tuple{u("b"), int64(1), u("x"), nil, 1.5, pyliteral.TimeDelta{Seconds: 3723}}
	add("the whole row of all columns", "",
		&seedRule{sql: []string{"insert into seed values ('%s','%s','%s','%s',%s,'%s')"}}, full)
	add("the whole row and more values", "more values than fields, without `sync_patch_field`",
		&seedRule{sql: []string{"insert into seed values ('%s','%s','%s','%s',%s,'%s')"}}, append(full[:6:6], int64(9)))

	// The first field id.
	ids := []string{"id", "k", "n", "s"}
	id := func(name, differs string, r *seedRule, rows ...pyliteral.Tuple) {
		from := len(all)
		add(name, differs, r, rows...)
		for i := range all[from:] {
			all[from+i].row.Table = "seed_id"
		}
	}
	numbered := []pyliteral.Tuple{{int64(17), u("a"), int64(1), u("x")}, {int64(18), u("b"), int64(2), nil},
		{int64(19), u("there"), int64(3), nil}}
	noID := "insert into seed_id (k,n,s) values ('%s','%s','%s')"
	id("a first field id", "", &seedRule{fields: ids, sql: []string{noID}}, numbered...)
	id("a first column id", "", &seedRule{sql: []string{noID}}, numbered...)
	id("a first field id by name", "", &seedRule{fields: ids, sql: []string{noID}, patch: [][]string{{"k", "n", "s"}}},
		numbered...)
	id("a first field id that has a placeholder", "a first field `id` that has a placeholder",
		&seedRule{fields: ids, sql: []string{"insert into seed_id (id,k,n,s) values ('%s','%s','%s','%s')"}},
		numbered...)

	// Where values come from.
	transfer, fixed := pyliteral.Tuple{pyliteral.Str("transfer"), nil},
		pyliteral.Tuple{pyliteral.Str("fixed"), int64(4)}
	one := [][]string{{"k", "n"}}
	sources := [][]pyliteral.Tuple{{transfer, fixed}}
	add("a fixed value in the SQL", "", &seedRule{fields: seedFields,
		sql: []string{"insert into seed (k,n) values ('%s',4)"}, patch: one, sources: sources}, seedPacket()...)
	add("a fixed value that fills a placeholder", "", &seedRule{fields: seedFields,
		sql: []string{"insert into seed (k,n) values ('%s','%s')"}, patch: one, sources: sources}, seedPacket()...)
	add("all values fixed, and formats of dates", "",
		&seedRule{fields: seedFields, sql: []string{"update seed set s=date_format(d,'%Y %% %H:%i')"},
			patch: [][]string{{"n"}}, sources: [][]pyliteral.Tuple{{fixed}}}, seedPacket()[0])
	add("percent signs and values", "", &seedRule{fields: seedFields,
		sql: []string{"insert into seed (k,n,s) values ('%s',1,'100%%')"}, patch: [][]string{{"k"}}}, seedPacket()...)

	// The word only chose a method.
	for _, w := range []struct{ word, sql string }{
		{"insert", seedStatements["replace"].sql},
		{"update", "insert into seed (k,n,s,d) values ('%s','%s','%s','%s') on duplicate key update n=values(n)"},
		{"insert|update", seedStatements["replace"].sql}, {"replace", seedStatements["insert"].sql},
		{"delete", seedStatements["insert"].sql},
	} {
		add(w.word+" for "+w.sql[:6], "", &seedRule{fields: seedFields, words: w.word, sql: []string{w.sql},
			patch: [][]string{seedFields}}, seedPacket()...)
	}
	add("a delete that marks", "", &seedRule{fields: seedFields, words: "delete",
		sql: []string{"update seed set n=-9 where k='%s'"}, patch: [][]string{{"k"}}}, seedPacket()...)

	// A quoted number is a text.
	for _, v := range []pyliteral.Value{int64(7), int64(0), u("7"), 100.0, 1e16, pyliteral.Long(7), 0.5} {
		add(fmt.Sprintf("delete where a text is %v", v), "",
			&seedRule{fields: seedFields, sql: []string{"delete from seed where s='%s'"}, patch: [][]string{{"s"}}},
			pyliteral.Tuple{u("a"), int64(1), v, nil})
	}
	return append(all, seedOddUploads()...)
}

// seedOddUploads are packets and rules with which syncgate does something else.
func seedOddUploads() (all []seedCase) {
	add := func(differs, fields, marks string, values ...pyliteral.Value) {
		r := &seedRule{fields: strings.Split(fields, ","),
			sql: []string{"insert into seed (" + fields + ") values (" + marks + ")"}}
		all = append(all, seedCase{name: differs, row: r.row("downside", seedSpellings[0]),
			rows: []pyliteral.Tuple{values}, differs: differs})
	}
	const three, four = "'%s','%s','%s'", "'%s','%s','%s','%s'"
	add("a backslash in a value", "k,n,s", three, u("b"), int64(1), u(`c:\new`))
	add("a backslash in a value", "k,n,s", three, u("b"), int64(1), u(`the end \`))
	add("a backslash in a value", "k,n,s", three, u("b"), int64(1), u(`x\',NULL),('c','2','y`))
	add("a float", "k,n,x", three, u("b"), int64(1), 0.30000000000000004)
	add("`True`, `False`", "k,n,s", three, u("b"), int64(1), true)
	add("a `timedelta` below zero, or of a day and more", "k,n,ti", three, u("b"), int64(1),
		pyliteral.TimeDelta{Days: -1, Seconds: 82800})
	add("a `timedelta` below zero, or of a day and more", "k,n,ti", three, u("b"), int64(1),
		pyliteral.TimeDelta{Days: 2, Seconds: 2})
	add("a text for `%s` without quotes", "k,n,s", "'%s','%s',%s", u("b"), int64(1), u("0042"))
	add("`%s` inside a longer literal: `'%s%%'`", "k,n,s", "'%s','%s','%s%%'", u("b"), int64(1), u("x"))
	add("`%d` and Python's other formats", "k,n", "'%s',%d", u("b"), int64(1))
	add("`%d` and Python's other formats", "k,n", "'%s','%d'", u("b"), int64(1))
	add("`%Y` in a statement with values", "k,n,s", "'%s','%s',if('%s'='',date_format(now(),'%Y'),'y')", u("b"),
		int64(1), u("x"))
	spare := chainOf("insert", "replace").row("downside", seedSpellings[0])
	spare.OperationType = "{'downside': 'insert'}"
	all = append(all, seedCase{name: "more statements than operations", row: spare, rows: seedPacket(),
		differs: "more statements than operations"})
	return all
}

// seedDownloads are the rules of an upside.
func seedDownloads() (all []seedCase) {
	add := func(name, differs, query string, content pyliteral.Value, set func(*rule.Row)) {
		for _, in := range seedSpellings {
			for _, word := range []string{"select", "insert", "file", "anything"} {
				row := (&seedRule{words: word, sql: []string{query}}).row("upside", in)
				row.Type = rule.Download
				set(&row)
				all = append(all, seedCase{name: name + ", word " + word + ", " + in.name, row: row, content: content,
					differs: differs})
			}
		}
	}
	plain, carried := func(*rule.Row) {}, func(row *rule.Row) { row.CarryState, row.UseCarriedState = true, true }
	state := func(values ...pyliteral.Value) pyliteral.Value {
		var pairs pyliteral.Tuple
		for i, v := range values {
			pairs = append(pairs, pyliteral.Tuple{u(fmt.Sprint("v", i)), v})
		}
		return pyliteral.List{pairs}
	}
	const since, between = "select k,n,d from seed where d > '%s' order by k",
		"select k,n,d from seed where d > '%s' and d <= '%s' order by k"
	printed, _ := pyliteral.Append(nil, pyliteral.Dict{u("a"), u("b")}, pyliteral.Python2)
	for i, content := range []pyliteral.Value{nil, pyliteral.Str(""), pyliteral.List{}, state(u("x")),
		pyliteral.Dict{u("a"), u("b")}, pyliteral.Str(printed), u("word"), int64(5)} {
		add(fmt.Sprintf("without values, content %d", i), "", "select k,date_format(d,'%Y-%m-%d %H:%i:%s'),'100%%' "+
			"from seed where s like '%s' or k < 'z' order by k", content, plain)
	}
	add("a carried time", "", since, state(u("2026-01-06 00:00:00")), carried)
	add("a carried date", "", since, state(pyliteral.DateTime{Year: 2026, Month: 1, Day: 6}), carried)
	add("a carried number", "", "select k from seed where s = '%s' order by k", state(int64(7)), carried)
	add("two carried values", "", between, state(u("2025-12-02"), u("2026-01-07")), carried)
	for _, value := range []string{"day:3", "day: 3", "day:6", "week:1", "month:2", "hour:6"} {
		period := func(row *rule.Row) { row.Range, row.RangeValue = rule.Period, value }
		name := ""
		if value == "hour:6" {
			name = hourRange
		}
		add(value, name, between, nil, period)
		add(value+" and a carried state", name, between, state(u("2026-01-06")),
			func(row *rule.Row) { period(row); carried(row) })
	}
	add("a carried NULL", "a carried NULL, as `max()` of an empty table gives", since, state(nil), carried)
	add("no carried state", "no carried state", since, nil, carried)
	add("a carried state as a dict", "a carried state that is no list of tuples", since,
		pyliteral.Dict{u("d"), u("2026-01-06")}, carried)
	add("%s without values", "`'%s'` in a statement without values",
		"select k from seed where s <> '%s' order by k", nil, plain)
	return all
}

func TestSeedTableIsLarge(t *testing.T) {
	seen := map[rule.Row]bool{}
	for _, c := range append(seedUploads(), seedDownloads()...) {
		seen[c.row] = true
	}
	if len(seen) < 250 {
		t.Errorf("the table has %d different rules", len(seen))
	}
}
