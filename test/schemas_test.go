package test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"syncgate/internal/harness/harnesstest"
)

// The tables of two known sample databases go from a point to the centre and from there to another point, rows and
// later changes with deletes, and are then the same everywhere.
func TestSampleDatabases(t *testing.T) {
	for _, name := range []string{"sakila", "employees"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(filepath.Join("testdata", "schemas", name+".sql"))
			if err != nil {
				t.Fatal(err)
			}
			schema, rows, _ := strings.Cut(string(text), "\n-- rows\n")
			rows, changes, ok := strings.Cut(rows, "\n-- changes\n")
			if !ok {
				t.Fatal("the file has no rows or no changes")
			}
			w := Make(t, Options{Points: 2})
			w.Enrol()
			for _, db := range w.Databases() {
				script(t, db, schema)
			}
			script(t, w.Point.DB, rows)
			var tables []string
			for _, found := range regexp.MustCompile(`(?m)^CREATE TABLE (\w+)`).FindAllStringSubmatch(schema, -1) {
				tables = append(tables, found[1])
				w.Must("rules", "init", found[1], "--point", "point-01", "--both", "--changes", "--write")
				w.Must("rules", "init", found[1], "--point", "point-02", "--type", "download", "--both",
					"--changes", "--write")
			}
			w.Serve()
			for _, p := range w.Points {
				p.Run("SYNCGATE_AGENT_INTERVAL=200ms")
			}
			sameEverywhere(w, tables)
			script(t, w.Point.DB, changes)
			sameEverywhere(w, tables)
			for _, db := range w.Databases() {
				if n := db.Count("SELECT COUNT(*) FROM sync_quarantine"); n != 0 {
					t.Errorf("%d rows are in quarantine", n)
				}
			}
		})
	}
}

// script runs the statements of a text over one connection.
func script(t *testing.T, db *DB, text string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), harnesstest.Patience)
	defer cancel()
	conn, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for statement := range strings.SplitSeq(text, ";\n") {
		if strings.TrimSpace(statement) == "" {
			continue // the end of the text
		}
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			t.Fatalf("%v in %.300s", err, statement)
		}
	}
}

// sameEverywhere waits until each table has the same checksum in every database.
func sameEverywhere(w *World, tables []string) {
	w.T.Helper()
	differ := ""
	Eventually(w.T, func() string { return "the same rows everywhere; these differ: " + differ }, func() bool {
		differ = ""
		for _, table := range tables {
			first := w.Point.Checksum(table)
			for _, db := range w.Databases() {
				if sum := db.Checksum(table); sum != first {
					differ += " " + table
				}
			}
		}
		return differ == ""
	})
}
