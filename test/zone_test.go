package test

import (
	"fmt"
	"testing"

	"syncgate/internal/pyliteral"
)

// TestZonesOfBothSides runs a centre and a point whose databases and hosts have different time zones.
func TestZonesOfBothSides(t *testing.T) {
	w := New(t)
	w.Env = append(append(w.Env, legacySettings()...), "SYNCGATE_TIME_ZONE=+08:00", "TZ=America/Lima")
	w.Point.Env = append(w.Point.Env, "SYNCGATE_AGENT_TIME_ZONE=-05:00", "TZ=Asia/Tokyo")
	w.Enrol()
	point, centre := w.Point, w.Centre
	for _, table := range []string{"plain", "own", "recent", "back"} {
		for _, db := range w.Databases() {
			db.Must("CREATE TABLE " + table + ` (id INT PRIMARY KEY, ts TIMESTAMP(6) NULL, dt DATETIME NULL,
				made DATETIME DEFAULT CURRENT_TIMESTAMP,
				update_time TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6))`)
		}
	}
	both := func(table, kind, read, write string, more ...string) {
		reader, writer := "client", "server"
		if kind == "download" {
			reader, writer = writer, reader
		}
		w.Rule(reader, kind, table, read, append([]string{"sync_field", "('id','ts','dt','update_time')"}, more...)...)
		w.Rule(writer, kind, table, write,
			append([]string{"sync_field", "('id','ts','dt','update_time')"}, more[:0]...)...)
	}
	both("plain", "upload", "", "")
	both("own", "upload", "select id, ts, dt, update_time from own where ts > :state.ts order by ts limit :limit",
		"insert into own (id, ts, dt, update_time) values (:id, :ts, :dt, :update_time)")
	both("recent", "upload", "select id, ts, dt, update_time from recent where dt > :since and dt <= :until and dt > "+
		"now() - interval 4 hour", "",
		"sync_range", "period", "sync_range_value", "hour:3")
	both("back", "download", "select id, ts, dt, update_time from back where ts > :state.ts order by ts limit "+
		":limit", "")

	// What the clients of the point's database write, whose time zone is -05:00.
	for _, table := range []string{"plain", "own"} {
		for i, at := range []string{"2026-01-15 23:30:00.25", "2026-07-16 01:00:00"} {
			point.Must(fmt.Sprintf("INSERT INTO %s (id, ts, dt) VALUES (%d, CONVERT_TZ('%s', '-05:00', "+
				"@@session.time_zone), '%s')", table, i, at, at))
		}
	}
	point.Must("INSERT INTO recent (id, dt) VALUES (1, CONVERT_TZ(NOW(), @@session.time_zone, '-05:00') - " +
		"INTERVAL 1 MINUTE)")
	point.Must("INSERT INTO recent (id, dt) VALUES (2, CONVERT_TZ(NOW(), @@session.time_zone, '-05:00') - INTERVAL " +
		"200 MINUTE)")
	centre.Must("INSERT INTO back (id, ts, dt) VALUES (1, CONVERT_TZ('2026-03-01 07:00:00', '+08:00', " +
		"@@session.time_zone), '2026-03-01 07:00:00')")
	wire, _ := w.Serve().WaitLog("listening")["legacy"].(string)
	c := dialLegacy(t, wire, pyliteral.Python3)
	reply := c.ask(c.packet(point.Name, "DOLOAD_DB", "back",
		pyliteral.List{pyliteral.Tuple{pyliteral.Tuple{pyliteral.Str("ts"), pyliteral.Str("2026-03-01 06:45:00")}}}))
	if want := "[[(1, datetime.datetime(2026, 3, 1, 7, 0), datetime.datetime(2026, 3, 1, " +
		"7, 0)"; len(reply.text) < len(want) || reply.text[:len(want)] != want {
		t.Errorf("the v1 wire gives %s, not %s…", reply.text, want)
	}
	point.Must("DO SLEEP(2.5)") // the lag of a rule that reads by time
	point.MustOnce()
	centre.Must("INSERT INTO back (id, ts, dt) VALUES (2, CONVERT_TZ('2026-03-01 07:30:00', '+08:00', " +
		"@@session.time_zone), '2026-03-01 07:30:00')")
	point.MustOnce()

	const rows = "SELECT COALESCE(GROUP_CONCAT(CONCAT_WS(' ', id, UNIX_TIMESTAMP(ts), dt) ORDER BY id), '') FROM "
	for _, table := range []string{"plain", "own", "back"} {
		if here, there := point.Text(rows+table), centre.Text(rows+table); here != there || here == "" {
			t.Errorf("%s: the point has %s, the centre %s", table, here, there)
		}
	}
	if got := centre.Text("SELECT GROUP_CONCAT(id) FROM recent"); got != "1" {
		t.Errorf("of the last three hours there is %s, not 1", got)
	}
	for table, db := range map[string]*DB{"plain": centre, "recent": centre, "back": point.DB} {
		zone := map[*DB]string{centre: "+08:00", point.DB: "-05:00"}[db]
		if n := db.Count("SELECT COUNT(*) FROM " + table + " WHERE ABS(TIMESTAMPDIFF(SECOND, made, CONVERT_TZ(NOW(), " +
			"@@session.time_zone, '" + zone + "'))) > 300"); n > 0 {
			t.Errorf("%s: a default is not in the zone of the database", table)
		}
	}
}
