package test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"syncgate/migrations"
	"syncgate/store"
	"syncgate/store/localdb/localdbtest"
)

// world is a centre and a point, each with a database, and the environment to run the commands on them.
type world struct {
	t      testing.TB
	dir    string
	centre *sql.DB
	point  *sql.DB
	env    []string // of syncgate
	agent  []string // of syncgate-agent, once a point is enrolled
}

const pointName = "point-01"

// newWorld makes both databases with their schema. The tests' databases are fast and not durable. The commands refuse
// such a database unless a setting accepts it.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir()}
	centre, point := localdbtest.New(t), localdbtest.New(t)
	w.centre, w.point = open(t, centre), open(t, point)
	w.env = []string{"SYNCGATE_DSN=" + centre, "SYNCGATE_DATA_DIR=" + filepath.Join(w.dir, "centre"),
		"SYNCGATE_ACCEPT_UNSAFE_DATABASE=true", "SYNCGATE_LISTEN=127.0.0.1:0"}
	w.agent = []string{"SYNCGATE_AGENT_DSN=" + point, "SYNCGATE_AGENT_DATA_DIR=" + filepath.Join(w.dir, "point"),
		"SYNCGATE_AGENT_ACCEPT_UNSAFE_DATABASE=true"}
	w.must("migrate")
	st, err := store.Open(t.Context(), store.Options{DSN: point, AcceptUnsafe: true, Set: migrations.Agent})
	if err == nil {
		err = errors.Join(st.Migrate(t.Context(), nil), st.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func open(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// must runs a syncgate command that has to succeed, and returns its standard output.
func (w *world) must(args ...string) string {
	w.t.Helper()
	out, errs, code := run(w.t, w.env, "syncgate", args...)
	if code != 0 {
		w.t.Fatalf("syncgate %v: exit %d\n%s%s", args, code, out, errs)
	}
	return out
}

// enrol adds a point and sets the agent's settings to its key.
func (w *world) enrol(name string) {
	w.t.Helper()
	var key struct {
		Point string `json:"point"`
		KeyID uint32 `json:"key_id"`
		Key   string `json:"key"`
	}
	if err := json.Unmarshal([]byte(w.must("point", "add", name, "--format", "json")), &key); err != nil {
		w.t.Fatal(err)
	}
	w.agent = append(w.agent, "SYNCGATE_AGENT_POINT="+key.Point, fmt.Sprintf("SYNCGATE_AGENT_KEY_ID=%d", key.KeyID), "SYNCGATE_AGENT_KEY="+key.Key)
}

// serve starts the server and gives the agent its address. A second call serves at the address of the first.
func (w *world) serve() *process {
	w.t.Helper()
	p := start(w.t, w.env, "syncgate", "serve")
	address, _ := p.waitLog("listening")["address"].(string)
	if address == "" {
		w.t.Fatalf("the server does not say where it listens:\n%s", p.text())
	}
	w.env = append(w.env, "SYNCGATE_LISTEN="+address)
	w.agent = append(w.agent, "SYNCGATE_AGENT_SERVER="+address)
	return p
}

// once runs one round of the agent.
func (w *world) once() (stdout, stderr string, code int) {
	w.t.Helper()
	return run(w.t, w.agent, "syncgate-agent", "once")
}

// rule writes a row of sync_control at one side.
func (w *world) rule(user, kind, table, sync string, more ...string) {
	w.t.Helper()
	db := w.centre
	if user == "client" {
		db = w.point
	}
	columns, marks, values := "sync_table, sync_type, sync_user, sync_point_no, sync_sql", "?, ?, ?, ?, NULLIF(?, '')", []any{table, kind, user, pointName, sync}
	for i := 0; i+1 < len(more); i += 2 {
		columns, marks, values = columns+", "+more[i], marks+", ?", append(values, more[i+1])
	}
	must(w.t, db, "INSERT INTO sync_control ("+columns+") VALUES ("+marks+")", values...)
}

func must(t testing.TB, db *sql.DB, query string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := db.ExecContext(ctx, query, args...); err != nil {
		t.Fatalf("%v in %.200s", err, query)
	}
}

func count(t testing.TB, db *sql.DB, query string, args ...any) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var n int
	if err := db.QueryRowContext(ctx, query, args...).Scan(&n); err != nil {
		t.Fatalf("%v in %s", err, query)
	}
	return n
}

// sum is the number of rows of a query and a checksum of them that does not depend on their order.
func sum(t testing.TB, db *sql.DB, query string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// The argument makes the server answer in the binary protocol, in which no digit of a FLOAT is lost.
	rows, err := db.QueryContext(ctx, "SELECT * FROM ("+query+") rows_of WHERE ? = 1", 1)
	if err != nil {
		t.Fatalf("%v in %s", err, query)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	values, scan := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		scan[i] = &values[i]
	}
	n, all := 0, new(big.Int)
	for rows.Next() {
		if err := rows.Scan(scan...); err != nil {
			t.Fatal(err)
		}
		hash := sha256.Sum256(fmt.Appendf(nil, "%#v", values))
		all.Add(all, new(big.Int).SetBytes(hash[:]))
		n++
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d rows %x", n, all)
}

// eventually waits until a query gives the number.
func eventually(t testing.TB, db *sql.DB, want int, query string, args ...any) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for got := -1; got != want; {
		if time.Now().After(deadline) {
			t.Fatalf("%s gives %d, not %d", query, got, want)
		}
		if got = count(t, db, query, args...); got != want {
			time.Sleep(10 * time.Millisecond) // the database does not report its changes
		}
	}
}

// sharedData is the path of a file of real data, or "" where it does not exist.
func sharedData(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(root(t), "..", "shared", "data", name)
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}
