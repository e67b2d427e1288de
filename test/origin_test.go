package test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// crossed is how many rows went over the wire.
type crossed struct{ up, down int }

// rounds lets the agents make rounds until one round of all of them moves nothing.
func rounds(w *World) (all crossed) {
	w.T.Helper()
	for range 10 {
		before := all
		reports := make([]string, len(w.Points))
		var agents sync.WaitGroup
		for i, p := range w.Points {
			agents.Go(func() {
				out, errs, code := p.Once()
				if reports[i] = out; code != 0 {
					w.T.Errorf("the round of %s: exit %d\n%s%s", p.Name, code, out, errs)
				}
			})
		}
		agents.Wait()
		for line := range strings.Lines(strings.Join(reports, "")) {
			words := strings.Fields(line)
			rows, _ := strconv.Atoi(words[2]) // the heading has none
			switch words[0] {
			case "upload":
				all.up += rows
			case "download":
				all.down += rows
			}
		}
		if all == before || w.T.Failed() {
			return all
		}
	}
	w.T.Fatalf("rows cross the wire for ever: %+v", all)
	return all
}

// Three points and the centre edit one table. Each change crosses the wire once to each side that has not made it, and
// none comes back.
func TestNoEcho(t *testing.T) {
	t.Parallel()
	w := Make(t, Options{Points: 3})
	w.Enrol()
	for _, db := range w.Databases() {
		db.Must("CREATE TABLE goods (id INT PRIMARY KEY, who VARCHAR(20), n INT NOT NULL)")
	}
	w.Centre.Must("INSERT INTO goods SELECT seq, 'before', seq FROM seq_1_to_20")
	w.Must("rules", "init", "goods", "--point", "*", "--type", "upload,download", "--both", "--changes", "--write")
	w.Serve()
	one, two, three := w.Points[0].DB, w.Points[1].DB, w.Points[2].DB
	for _, step := range []struct {
		name string
		edit func()
		want crossed
	}{
		{"the first load", func() {}, crossed{0, 60}},
		{"the centre inserts 10", func() {
			w.Centre.Must("INSERT INTO goods SELECT seq, 'centre', 0 FROM seq_101_to_110")
		}, crossed{0, 30}},
		{"a point inserts, updates and deletes 12", func() {
			one.Must("INSERT INTO goods SELECT seq, 'one', 0 FROM seq_201_to_207")
			one.Must("UPDATE goods SET n = -1 WHERE id IN (101, 102, 103)")
			one.Must("DELETE FROM goods WHERE id IN (109, 110)")
		}, crossed{12, 24}},
		{"all edit 5 rows each", func() {
			for i, db := range w.Databases() {
				db.Must("UPDATE goods SET who = ?, n = n + 1 WHERE id BETWEEN ? AND ?", fmt.Sprint("side ", i),
					5*i+1, 5*i+5)
			}
		}, crossed{15, 45}},
		{"a row that is changed often", func() {
			for n := range 9 {
				two.Must("UPDATE goods SET n = ? WHERE id = 201", n)
			}
		}, crossed{1, 2}},
		{"4 keys change", func() {
			two.Must("UPDATE goods SET id = id + 1000 WHERE id BETWEEN 1 AND 4")
		}, crossed{8, 16}},
		{"a row that is inserted and deleted", func() {
			three.Must("INSERT INTO goods VALUES (300, 'three', 0)")
			three.Must("DELETE FROM goods WHERE id = 300")
		}, crossed{1, 0}}, // the centre has nothing to delete
		{"a change that is rolled back", func() {
			tx, err := three.Begin()
			if err == nil {
				_, err = tx.Exec("DELETE FROM goods")
			}
			if err != nil || tx.Rollback() != nil {
				t.Fatal(err)
			}
		}, crossed{0, 0}},
	} {
		step.edit()
		if got := rounds(w); got != step.want {
			t.Errorf("%s: %+v crossed, want %+v", step.name, got, step.want)
		}
		for _, p := range w.Points {
			if centre, point := w.Centre.Checksum("goods"), p.Checksum("goods"); centre != point {
				t.Fatalf("%s: %s has other rows than the centre", step.name, p.Name)
			}
		}
	}
}
