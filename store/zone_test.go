package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	_ "time/tzdata"

	"syncgate/internal/rowset"
	"syncgate/rule"
	"syncgate/store/localdb"
	"syncgate/store/localdb/localdbtest"
)

// instants are of winter and of summer, and both of the hours that come twice in Berlin and in New York.
var instants = []string{"2026-01-15 12:00:00.123456", "2026-07-15 22:30:00", "2026-10-25 00:30:00",
	"2026-10-25 01:30:00.5",
	"2026-11-01 05:30:00", "2026-11-01 06:30:00", "1986-06-01 00:00:00", "1970-01-02 00:00:00", "2037-08-01 10:00:00"}

// zoneSite is a database whose clients have a time zone.
type zoneSite struct {
	*Store
	zone   string
	client *sql.Conn // another client
}

func zoneSites(t *testing.T) []*zoneSite {
	t.Setenv("TZ", "America/New_York") // the zone of the server's host
	server := localdbtest.Server(t, localdb.Options{})
	admin, err := sql.Open("mysql", server.DSN(""))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	localdbtest.LoadZone(t, admin, "Europe/Berlin")
	var all []*zoneSite
	for i, zone := range []string{"+08:00", "-05:00", "Europe/Berlin", "SYSTEM", "+00:00"} {
		name := fmt.Sprintf("zone%d", i)
		if _, err := admin.Exec("CREATE DATABASE " + name); err != nil {
			t.Fatal(err)
		}
		s := openDSN(t, server.DSN(name), func(o *Options) { o.Zone = zone })
		exec(t, s, `CREATE TABLE t (id INT PRIMARY KEY, ts TIMESTAMP(6) NULL, dt DATETIME(6) NULL,
		flat DATETIME(6) NULL,
			made DATETIME DEFAULT CURRENT_TIMESTAMP, noted DATETIME)`)
		exec(t, s, "CREATE TRIGGER note BEFORE INSERT ON t FOR EACH ROW SET NEW.noted = NOW()")
		client := session(t, s)
		on(t, client, "SET time_zone = '"+zone+"'")
		all = append(all, &zoneSite{s, zone, client})
	}
	return all
}

// seen is what another client sees.
func (x *zoneSite) seen(t *testing.T, q string) string {
	t.Helper()
	var all []string
	rows, err := x.client.QueryContext(testContext(t), q)
	if err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	defer rows.Close()
	for rows.Next() {
		var v sql.NullString
		if err := rows.Scan(&v); err != nil {
			t.Fatal(err)
		}
		all = append(all, v.String)
	}
	return strings.Join(all, "\n")
}

const exactly = "SELECT CONCAT_WS(' ', id, UNIX_TIMESTAMP(ts), dt) FROM t ORDER BY id"

var zoneRules = map[string][2]string{
	"generated": {"", ""},
	"condition": {"-- option: where made <= now() + interval 1 minute and made > now() - interval 1 hour", ""},
	"own": {"select id, ts, dt, flat from t where id > :state.id order by id limit :limit",
		"insert into t (id, ts, dt, flat) values (:id, :ts, :dt, :ts)"},
}

// TestZones moves TIMESTAMPs and DATETIMEs between databases of all zones.
func TestZones(t *testing.T) {
	sites := zoneSites(t)
	for _, from := range sites {
		on(t, from.client, "SET time_zone = '+00:00'")
		for i, at := range instants {
			on(t, from.client, fmt.Sprintf("INSERT INTO t (id, ts, dt) VALUES (%d, '%s', '%s')", i, at, at))
		}
		on(t, from.client, "INSERT INTO t (id, ts, dt) VALUES (100, NULL, '0000-00-00')")
		on(t, from.client, "SET time_zone = '"+from.zone+"'")
		on(t, from.client, "UPDATE t SET made = NOW()")
		for form, text := range zoneRules {
			up := planOf(t, from.Store, rule.Row{ID: 1, Table: "t", Type: rule.Upload, User: rule.Client,
				Field: "('id','ts','dt')", SQL: text[0]})
			rows := collect{}
			page, err := from.Read(testContext(t), up, rule.Env{Point: "p", Limit: 3}, &rows)
			if err != nil {
				t.Fatal(from.zone, form, err)
			}
			if page.Rows != uint64(len(instants)+1) {
				t.Errorf("%s %s: %d rows", from.zone, form, page.Rows)
			}
			for _, to := range sites {
				if to != from {
					to.receives(t, from, form, text[1], &rows)
				}
			}
		}
		on(t, from.client, "DELETE FROM t")
	}
}

func (x *zoneSite) receives(t *testing.T, from *zoneSite, form, sql string, rows *collect) {
	field, table := "('id','ts','dt')", "t"
	down := planOf(t, x.Store, rule.Row{ID: 2, Table: table, Type: rule.Download, User: rule.Client, Field: field,
		SQL: sql})
	batch := rowset.Rows{Instants: rowset.Instants(rows.cols)}
	for _, c := range rows.cols {
		batch.Columns = append(batch.Columns, c.Name)
	}
	for i, row := range rows.rows {
		batch.Values = append(batch.Values, row...)
		if i == 1 || i == 5 || i+1 == len(rows.rows) { // the hours that come twice are between
			err := x.InTx(testContext(t), func(tx *Tx) error {
				out, err := tx.Apply(testContext(t), down, batch, rule.Env{Point: "p"})
				if len(out.Quarantined) > 0 {
					t.Error(out.Quarantined)
				}
				return err
			})
			if err != nil {
				t.Fatal(x.zone, form, err)
			}
			batch.Values = nil
		}
	}
	name := fmt.Sprintf("%s, %s to %s", form, from.zone, x.zone)
	want := strings.Split(from.seen(t, exactly), "\n")
	got := strings.Split(x.seen(t, exactly), "\n")
	if form == "own" && (from.zone == "Europe/Berlin" || from.zone == "SYSTEM") {
		// The text of the second hour is that of the first, also for the rule.
		second := map[string]int{"Europe/Berlin": 3, "SYSTEM": 5}[from.zone]
		want, got = slices.Delete(want, second, second+1), slices.Delete(got, second, second+1)
	}
	equal(t, name, strings.Join(got, "\n"), strings.Join(want, "\n"))
	if form == "own" { // an instant in a DATETIME is what the clients of that database see
		equal(t, name+", a DATETIME", x.seen(t, "SELECT COUNT(*) FROM t WHERE NOT flat <=> CAST(ts AS DATETIME(6)) "+
			"AND id NOT IN (2, 3, 4, 5)"), "0")
	}
	equal(t, name+", the time of a default and a trigger",
		x.seen(t, "SELECT MAX(ABS(TIMESTAMPDIFF(SECOND, made, NOW())) + ABS(TIMESTAMPDIFF(SECOND, noted, NOW()))) "+
			"< 60 FROM t"), "1")
	on(t, x.client, "DELETE FROM t")
}

// TestZoneOfClients compares what a rule's SQL sees, and what a client gets that knows nothing of UTC, with what
// another client of the database sees.
func TestZoneOfClients(t *testing.T) {
	for _, x := range zoneSites(t) {
		on(t, x.client, "SET time_zone = '+00:00'")
		for i, at := range instants {
			on(t, x.client, fmt.Sprintf("INSERT INTO t (id, ts) VALUES (%d, '%s')", i, at))
		}
		on(t, x.client, "SET time_zone = '"+x.zone+"'")
		read := func(sql string, env rule.Env) *collect {
			t.Helper()
			p := planOf(t, x.Store, rule.Row{ID: 1, Table: "t", Type: rule.Download, User: rule.Server, SQL: sql,
				Field: "('id','ts')", Range: rule.Period, RangeValue: "hour:3"})
			rows := collect{}
			if _, err := x.Read(testContext(t), p, env, &rows); err != nil {
				t.Fatal(x.zone, err)
			}
			return &rows
		}
		for _, sql := range []string{"", "-- option: where id >= 0", "select id, ts from t order by id"} {
			var got []string
			for _, row := range read(sql, rule.Env{Wall: true}).rows {
				got = append(got, strings.TrimSpace(fmt.Sprintln(row...)))
			}
			equal(t, x.zone+" "+sql, strings.Join(got, "\n"),
				x.seen(t, "SELECT CONCAT(id, ' ', ts) FROM t ORDER BY id"))
		}
		now := read(`select abs(timestampdiff(second, :now, now())) < 5,
			abs(timestampdiff(second, :since, now()) - 10800) < 5,
			:until = :now, date(ts), now(), @@session.time_zone from t where id = 1`, rule.Env{}).rows[0]
		seen := x.seen(t, "SELECT CONCAT_WS(' ', 1, 1, 1, DATE(ts)) FROM t WHERE id = 1")
		equal(t, x.zone, fmt.Sprint(now[0], " ", now[1], " ", now[2], " ", now[3]), seen)
		equal(t, x.zone+" now()", x.seen(t, fmt.Sprintf("SELECT ABS(TIMESTAMPDIFF(SECOND, '%s', NOW())) < 5", now[4])),
			"1")
	}
}

// TestZoneChanges sets another zone while connections are open, as a DBA may.
func TestZoneChanges(t *testing.T) {
	server := localdbtest.Server(t, localdb.Options{})
	if err := server.CreateDatabase(testContext(t), "z"); err != nil {
		t.Fatal(err)
	}
	s := openDSN(t, server.DSN("z"))
	exec(t, s, "CREATE TABLE t (id INT PRIMARY KEY)")
	p := planOf(t, s, rule.Row{ID: 1, Table: "t", Type: rule.Download, User: rule.Server,
		SQL: "select @@session.time_zone, now()"})
	for _, zone := range []string{"-05:00", "+08:00", "SYSTEM"} {
		exec(t, s, "SET GLOBAL time_zone = '"+zone+"'")
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			rows := collect{}
			if _, err := s.Read(testContext(t), p, rule.Env{}, &rows); err != nil {
				t.Fatal(err)
			}
			want := zone
			if zone == "SYSTEM" && rows.rows[0][0] == "+00:00" {
				want = "+00:00"
			}
			if rows.rows[0][0] == want {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("the session has %v, the database %s", rows.rows[0][0], zone)
			}
		}
	}
	if _, err := Open(context.Background(), Options{DSN: server.DSN("z"), Zone: "Mars/Olympus",
		AcceptUnsafe: true}); err == nil || !strings.Contains(err.Error(), "Mars/Olympus") {
		t.Errorf("a zone that the database does not know: %v", err)
	}
}
