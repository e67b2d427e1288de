package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// alteration is a change of a table that both ends get. The statements have %s for the table.
type alteration struct {
	name        string
	before      string // columns before, behind the key
	giver, take string // ALTER at the end that gives rows and at the end that takes them
	column      string // the column that exists at the end of it
	gone        string // the column in its place before; empty: none
}

var alterations = []alteration{
	{"add", "v int", "add site varchar(10)", "add site varchar(10)", "site", ""},
	{"filled", "v int", "add site varchar(10) not null default 'north'", "add site varchar(10)", "site", ""},
	{"first", "v int", "add site varchar(10) first", "add site varchar(10) after v", "site", ""},
	{"drop", "v int, old varchar(10) default 'o'", "drop old", "drop old", "v", "old"},
	{"rename", "v int, old varchar(10)", "rename column old to site", "rename column old to site", "site", "old"},
}

// altered is one alteration in one direction and order.
type altered struct {
	alteration
	table       string
	down        bool
	order       string // which end is altered first: giver, taker or both
	give, taker *DB
	rows        int
}

func (a *altered) sql(db *DB, text string) {
	db.Must("alter table " + a.table + " " + text)
}

// insert gives a row. value goes to column where the giver has it.
func (a *altered) insert(column string) {
	a.rows++
	if column == "" || column == "v" {
		a.give.Must("insert into "+a.table+" (id, v) values (?, ?)", a.rows, a.rows)
		return
	}
	a.give.Must("insert into "+a.table+" (id, v, "+column+") values (?, ?, ?)", a.rows, a.rows,
		fmt.Sprint("row ", a.rows))
}

func (a *altered) arrived(t *testing.T) {
	t.Helper()
	a.taker.Eventually(a.rows, "select count(*) from "+a.table)
}

// alteredTables makes tables with rules; option is that of the rules at the point.
func alteredTables(w *World, option string, downs []bool, orders ...string) []*altered {
	var all []*altered
	for _, down := range downs {
		for _, order := range orders {
			for _, x := range alterations {
				a := &altered{alteration: x, down: down, order: order, give: w.Point.DB, taker: w.Centre}
				kind := "upload"
				if down {
					a.give, a.taker, kind = w.Centre, w.Point.DB, "download"
				}
				a.table = strings.Join([]string{kind, x.name, order}, "_")
				for _, db := range []*DB{w.Centre, w.Point.DB} {
					db.Must("create table " + a.table + " (id int primary key, " + x.before +
						`, update_time datetime(6) not null
						default current_timestamp(6) on update current_timestamp(6), key (update_time, id))`)
				}
				w.Rule("server", kind, a.table, "")
				w.Rule("client", kind, a.table, option)
				a.insert(x.gone)
				a.insert("")
				all = append(all, a)
			}
		}
	}
	return all
}

// equal waits until every value of the table is the same at both ends.
func (a *altered) equal(t *testing.T) {
	t.Helper()
	query := "select id, v, " + a.column + " as c from " + a.table
	var give, take string
	Eventually(t, func() string { return fmt.Sprintf("%s: given %s, taken %s", a.table, give, take) }, func() bool {
		text := "select group_concat(id, ':', coalesce(v, '-'), ':', coalesce(c, '-') order by id) from (" +
			query + ") rows_of"
		give, take = a.give.Text(text), a.taker.Text(text)
		return give == take
	})
}

// A column is added, filled, moved, dropped or renamed at one end, at the other, or at both at once, while rows travel.
// Every value is the same at the end.
func TestAlterInEveryOrder(t *testing.T) {
	w := New(t)
	w.Enrol()
	all := alteredTables(w, "", []bool{false, true}, "giver", "taker", "both")
	w.Serve()
	w.Point.Run("SYNCGATE_AGENT_INTERVAL=200ms")
	each := func(step func(a *altered)) {
		for _, a := range all {
			step(a)
		}
		for _, a := range all {
			a.arrived(t)
		}
	}
	each(func(*altered) {})
	each(func(a *altered) {
		gives := a.gone
		if a.order != "taker" {
			a.sql(a.give, a.giver)
			gives = a.column
		}
		if a.order != "giver" {
			a.sql(a.taker, a.take)
		}
		a.insert(gives)
	})
	each(func(a *altered) {
		switch a.order {
		case "taker":
			a.sql(a.give, a.giver)
		case "giver":
			a.sql(a.taker, a.take)
		}
		a.insert(a.column)
	})
	each(func(a *altered) { a.insert(a.column) })
	for _, a := range all {
		a.equal(t)
	}
	w.Centre.Eventually(0, "select count(*) from sync_rule_columns")
	w.Point.Eventually(0, "select count(*) from sync_outbox")
}

// Rows that were collected before an ALTER at both ends arrive, and so do those behind them.
func TestAlterWhileRowsWait(t *testing.T) {
	w := New(t)
	w.Enrol()
	all := alteredTables(w, "-- option: outbox", []bool{false}, "waiting")
	server := w.Serve()
	agent := w.Point.Run("SYNCGATE_AGENT_INTERVAL=200ms")
	for _, a := range all {
		a.arrived(t)
	}
	server.Stop()
	for _, a := range all {
		a.insert(a.gone)
	}
	w.Point.Eventually(len(all), "select count(*) from sync_outbox")
	agent.Stop()
	for _, a := range all {
		a.sql(a.give, a.giver)
		a.sql(a.taker, a.take)
		a.insert(a.column)
	}
	w.Serve()
	w.Point.Run("SYNCGATE_AGENT_INTERVAL=200ms")
	for _, a := range all {
		a.arrived(t)
		a.equal(t)
	}
}

// A table that has a column more at one end, or computes one there, travels, and the difference is told.
func TestFieldsThatDiffer(t *testing.T) {
	w := New(t)
	w.Enrol()
	const clock = ", update_time datetime(6) not null default current_timestamp(6) on update current_timestamp(6), " +
		"key (update_time, id))"
	for _, kind := range []string{"upload", "download"} {
		w.Centre.Must("create table " + kind + "s (id int primary key, v int, twice int, here int default 4" + clock)
		w.Point.Must("create table " + kind + "s (id int primary key, v int, twice int as (v * 2), there int " +
			"default 5" + clock)
		w.Rule("server", kind, kind+"s", "")
		w.Rule("client", kind, kind+"s", "")
	}
	w.Point.Must("insert into uploads (id, v, there) values (1, 2, 3)")
	w.Centre.Must("insert into downloads (id, v, twice, here) values (1, 2, 9, 3)")
	w.Serve()
	agent := w.Point.Run("SYNCGATE_AGENT_INTERVAL=200ms")
	w.Centre.Eventually(1, "select count(*) from uploads where v = 2 and twice is null and here = 4")
	w.Point.Eventually(1, "select count(*) from downloads where v = 2 and twice = 4 and there = 5")
	w.Centre.Eventually(2, "select count(*) from sync_control_status where columns_differ like '%point-01 has %there%'")
	w.Point.Eventually(1, "select count(*) from sync_control_status where columns_differ like 'the centre has "+
		"twice, here%'")
	said := func(line map[string]any) bool {
		return line["message"] == "the centre does not have these columns; their values are left out until it has" &&
			slices.Equal(line["columns"].([]any), []any{"there"})
	}
	agent.WaitLine("a warning about the column there", said)
}

// A table whose changes are recorded, and that goes both ways, gets a column at the centre and at two points, one after
// the other, while all of them edit it. A delete that nobody has read when the table is read again is not lost.
func TestAlterWithChanges(t *testing.T) {
	t.Parallel()
	w := Make(t, Options{Points: 2})
	w.Enrol()
	all := []*DB{w.Points[1].DB, w.Centre, w.Points[0].DB}
	for _, db := range all {
		db.Must("create table goods (id int primary key, v int)")
	}
	w.Centre.Must("insert into goods select seq, seq from seq_1_to_30")
	w.Must("rules", "init", "goods", "--point", "*", "--type", "upload,download", "--both", "--changes", "--write")
	w.Serve()
	rounds(w)
	for i, db := range all {
		db.Must("alter table goods add site varchar(10) default 'north'")
		db.Must("insert into goods (id, v, site) values (?, 0, ?)", 100+i, fmt.Sprint("row ", i))
		db.Must("update goods set site = ? where id = ?", fmt.Sprint("edit ", i), 1+i)
		db.Must("delete from goods where id = ?", 11+i)
		rounds(w)
	}
	all[0].Must("delete from goods where id = 20")
	all[1].Must("delete from goods where id = 21")
	rounds(w)
	const rows = "select group_concat(id, ':', v, ':', coalesce(site, '-') order by id) from goods"
	want := w.Centre.Text(rows)
	for _, has := range []string{"100:0:row 0", "101:0:row 1", "102:0:row 2", "1:1:edit 0", "2:2:edit 1",
		"3:3:edit 2"} {
		if !strings.Contains(","+want+",", ","+has+",") {
			t.Errorf("the centre lacks %s: %s", has, want)
		}
	}
	if n := w.Centre.Count("select count(*) from goods"); n != 30+3-5 {
		t.Errorf("%d rows at the centre: %s", n, want)
	}
	for _, p := range w.Points {
		if got := p.Text(rows); got != want {
			t.Errorf("%s has %s\nthe centre %s", p.Name, got, want)
		}
	}
}
