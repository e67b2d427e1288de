package localdbtest

import (
	"database/sql"
	"testing"
	"time"
)

// LoadZone puts a time zone into the server's tables of zones, as mariadb-tzinfo-to-sql does, for the years from 1970
// to 2037.
func LoadZone(t testing.TB, db *sql.DB, name string) {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	exec := func(q string, args ...any) int64 {
		t.Helper()
		res, err := db.Exec(q, args...)
		if err != nil {
			t.Fatalf("%s: %v", q, err)
		}
		id, _ := res.LastInsertId() // MySQL's driver always knows it
		return id
	}
	id := exec("INSERT INTO mysql.time_zone (Use_leap_seconds) VALUES ('N')")
	exec("INSERT INTO mysql.time_zone_name (Name, Time_zone_id) VALUES (?, ?)", name, id)
	at := time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC).In(zone)
	kinds := map[string]int{} // few, as the server demands
	for end := time.Date(2038, 1, 1, 0, 0, 0, 0, time.UTC); at.Before(end) && !at.IsZero(); _, at = at.ZoneBounds() {
		abbreviation, offset := at.Zone()
		kind, known := kinds[at.Format("MST -0700")]
		if !known {
			kind = len(kinds)
			kinds[at.Format("MST -0700")] = kind
			exec("INSERT INTO mysql.time_zone_transition_type VALUES (?, ?, ?, ?, ?)",
				id, kind, offset, at.IsDST(), abbreviation)
		}
		if at.Unix() > 0 {
			exec("INSERT INTO mysql.time_zone_transition VALUES (?, ?, ?)", id, at.Unix(), kind)
		}
	}
}
