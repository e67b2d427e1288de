package test

import (
	"bufio"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// badWorld is a world whose tables *_up are uploaded and *_down downloaded, with an agent that packs nothing.
func badWorld(t *testing.T, tables ...string) (*World, *Link) {
	t.Helper()
	w := New(t)
	for _, table := range tables {
		for _, db := range []*DB{w.Centre, w.Point.DB} {
			db.Must("CREATE TABLE " + table + ` (id BIGINT PRIMARY KEY, v LONGTEXT NOT NULL,
				update_time DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
				KEY (update_time))`)
		}
		kind := "upload"
		if strings.HasSuffix(table, "_down") {
			kind = "download"
		}
		w.Rule("server", kind, table, "")
		w.Rule("client", kind, table, "")
	}
	w.Point.Enrol(pointName)
	w.Serve()
	w.Point.Env = append(w.Point.Env, "SYNCGATE_AGENT_UNCOMPRESSED=true", "SYNCGATE_AGENT_INTERVAL=200ms")
	return w, w.Point.Link()
}

// hard is text that cannot be packed well.
func hard(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.IntN(64)) + '0'
	}
	return strings.ReplaceAll(string(b), "\\", "/")
}

// fill writes rows with ids from one to another, of size bytes each.
func fill(db *DB, table string, from, to, size int) {
	for from <= to {
		var b strings.Builder
		b.WriteString("INSERT INTO " + table + " (id, v) VALUES ")
		for i := 0; i < 500 && from <= to; i++ {
			if i > 0 {
				b.WriteString(", ")
			}
			fmt.Fprintf(&b, "(%d, '%s')", from, hard(size))
			from++
		}
		db.Must(b.String())
	}
}

// rowSize is the bytes of a row with 200 bytes of text: its id, and its time with a head.
const rowSize = 3 + 202 + 27

// A line that is slow and lives short carries large tables in both directions. Small tables do not wait for them, and
// little is sent twice.
func TestShortLivedLink(t *testing.T) {
	bad, last, wait := Bad{Rate: 32_000, Delay: 20 * time.Millisecond, Lives: 3 * time.Second}, 6*time.Second,
		15*time.Second
	least := 70
	if long, err := time.ParseDuration(os.Getenv("SYNCGATE_TEST_LINKS")); err == nil {
		bad, last, wait = Bad{Rate: 8_000, Delay: 50 * time.Millisecond, Lives: 30 * time.Second}, long, time.Minute
		least = 80
	}
	w, line := badWorld(t, "large_up", "large_down", "small_up", "small_down")
	rows := int(last.Seconds()) * bad.Rate / rowSize
	fill(w.Point.DB, "large_up", 1, rows, 200)
	fill(w.Centre, "large_down", 1, rows, 200)
	w.Point.Must("UPDATE large_up SET update_time = NOW(6) - INTERVAL 1 MINUTE")
	w.Centre.Must("UPDATE large_down SET update_time = NOW(6) - INTERVAL 1 MINUTE")
	line.Worsen(bad)
	agent := w.Point.Run()
	var slowest time.Duration
	var all sync.WaitGroup
	for began, id := time.Now(), 1; time.Since(began) < last; id++ {
		all.Go(func() {
			for _, way := range []struct {
				table    string
				from, to *DB
			}{{"small_up", w.Point.DB, w.Centre}, {"small_down", w.Centre, w.Point.DB}} {
				inserted := time.Now()
				fill(way.from, way.table, id, id, 10)
				way.to.Eventually(1, fmt.Sprintf("SELECT COUNT(*) FROM %s WHERE id = %d", way.table, id))
				took := time.Since(inserted)
				t.Logf("%s: %v", way.table, took.Round(time.Millisecond))
				slowest = max(slowest, took)
			}
		})
		time.Sleep(last / 20)
		all.Wait()
	}
	badUp, badDown := line.Carried()
	line.Worsen(Bad{}) // so that what has come of the last batch and page counts
	line.Cut()
	w.Centre.Eventually(rows, "SELECT COUNT(*) FROM large_up")
	w.Point.Eventually(rows, "SELECT COUNT(*) FROM large_down")
	up, down := line.Carried()
	agent.Stop()
	size := rows * rowSize
	t.Logf("%d bytes of rows took %d up (%d %%; %d while the line was bad), and %d down (%d %%; %d); the slowest "+
		"small row took %v",
		size, up, 100*size/int(up), badUp, down, 100*size/int(down), badDown, slowest)
	if slowest > wait {
		t.Errorf("a small row took %v", slowest)
	}
	if 100*size < least*int(up) || 100*size < least*int(down) {
		t.Error("too much of what the line carried were not rows")
	}
}

// A row that is larger than what a connection lives for comes in pieces, over several connections.
func TestLargeRowOutlivesCuts(t *testing.T) {
	w, line := badWorld(t, "large_up", "large_down")
	fill(w.Point.DB, "large_up", 1, 1, 250_000)
	fill(w.Centre, "large_down", 1, 1, 250_000)
	line.Worsen(Bad{Rate: 64_000, Lives: 2 * time.Second})
	w.Point.Run()
	w.Centre.Eventually(1, "SELECT COUNT(*) FROM large_up")
	w.Point.Eventually(1, "SELECT COUNT(*) FROM large_down")
	for _, table := range []string{"large_up", "large_down"} {
		sum := "SELECT MD5(v) FROM " + table
		if w.Centre.Text(sum) != w.Point.Text(sum) {
			t.Errorf("%s differs", table)
		}
	}
	if up, down := line.Carried(); up > 500_000 || down > 500_000 {
		t.Errorf("the line carried %d bytes up and %d down for 250,000", up, down)
	}
}

// Rows of text take a third of their bytes on the wire, in both directions.
func TestRowsArePacked(t *testing.T) {
	path := SharedData(t, "debian-packages.tsv.gz")
	if path == "" {
		t.Skip("the Debian packages are not here")
	}
	packed, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	text, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	w, line := badWorld(t, "large_up", "large_down")
	lines := bufio.NewScanner(text)
	size := 0
	for id := 1; id <= 2000 && lines.Scan(); id++ {
		size += len(lines.Text()) + 8 + 26
		w.Point.Must("INSERT INTO large_up (id, v, update_time) VALUES (?, ?, NOW(6) - INTERVAL 1 MINUTE)", id,
			lines.Text())
		w.Centre.Must("INSERT INTO large_down (id, v, update_time) VALUES (?, ?, NOW(6) - INTERVAL 1 MINUTE)", id,
			lines.Text())
	}
	w.Point.MustOnce("SYNCGATE_AGENT_UNCOMPRESSED=false")
	up, down := line.Carried()
	t.Logf("%d bytes of rows took %d bytes up (%d %%) and %d down (%d %%)", size, up, 100*int(up)/size, down,
		100*int(down)/size)
	if n := w.Centre.Count("SELECT COUNT(*) FROM large_up") +
		w.Point.Count("SELECT COUNT(*) FROM large_down"); n != 4000 {
		t.Errorf("%d rows came", n)
	}
	if 100*up > 35*int64(size) || 100*down > 35*int64(size) {
		t.Error("more than 35 % on the wire")
	}
}
