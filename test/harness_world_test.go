package test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"syncgate/crypto"
	"syncgate/internal/harness/harnesstest"
	"syncgate/migrations"
	"syncgate/store"
	"syncgate/store/localdb"
	"syncgate/store/localdb/localdbtest"
)

// PointName is the name of the first point.
const PointName = "point-01"

// World is a centre and points, each with a database.
type World struct {
	T      testing.TB
	Dir    string
	Centre *DB
	Point  *Point   // the first
	Points []*Point // all
	Env    []string // of syncgate

	own bool
}

// Point is a point and the environment of its agent.
type Point struct {
	*DB
	Name string
	Env  []string // of syncgate-agent, complete once the point is enrolled and the server is started
	w    *World
}

// Options of a world.
type Options struct {
	Points int  // default 1
	Own    bool // each database has a durable server of its own, which DB.Kill kills
}

// New makes a centre and a point that share a database server.
func New(t testing.TB) *World {
	t.Helper()
	return Make(t, Options{})
}

// Make makes the databases with their schema. A shared server is fast and not durable. The commands refuse such a
// database unless a setting accepts it.
func Make(t testing.TB, o Options) *World {
	t.Helper()
	w := &World{T: t, Dir: t.TempDir(), own: o.Own}
	w.Centre = w.database("centre", migrations.Server)
	w.Env = []string{"SYNCGATE_DSN=" + w.Centre.DSN, "SYNCGATE_DATA_DIR=" + filepath.Join(w.Dir, "centre"),
		"SYNCGATE_ACCEPT_UNSAFE_DATABASE=true", "SYNCGATE_LISTEN=127.0.0.1:0"}
	for range max(o.Points, 1) {
		w.AddPoint()
	}
	w.Point = w.Points[0]
	return w
}

func (w *World) database(name string, set migrations.Set) *DB {
	w.T.Helper()
	var server *localdb.Server
	var dsn string
	if w.own {
		server = localdbtest.Server(w.T, localdb.Options{Durable: true})
		ctx, cancel := context.WithTimeout(context.Background(), harnesstest.Patience)
		defer cancel()
		if err := server.CreateDatabase(ctx, "syncgate"); err != nil {
			w.T.Fatal(err)
		}
		dsn = server.DSN("syncgate")
	} else {
		dsn = localdbtest.New(w.T)
	}
	st, err := store.Open(w.T.Context(), store.Options{DSN: dsn, AcceptUnsafe: true, Set: set})
	if err == nil {
		err = errors.Join(st.Migrate(w.T.Context(), nil), st.Close())
	}
	if err != nil {
		w.T.Fatalf("%s: %v", name, err)
	}
	db := Open(w.T, dsn)
	db.server = server
	return db
}

// AddPoint makes another point. Its agent has no key yet.
func (w *World) AddPoint() *Point {
	w.T.Helper()
	name := fmt.Sprintf("point-%02d", len(w.Points)+1)
	p := &Point{DB: w.database(name, migrations.Agent), Name: name, w: w}
	p.Env = []string{"SYNCGATE_AGENT_DSN=" + p.DSN, "SYNCGATE_AGENT_DATA_DIR=" + filepath.Join(w.Dir, name),
		"SYNCGATE_AGENT_ACCEPT_UNSAFE_DATABASE=true"}
	w.Points = append(w.Points, p)
	return p
}

// Databases are all databases, the centre's first.
func (w *World) Databases() []*DB {
	all := []*DB{w.Centre}
	for _, p := range w.Points {
		all = append(all, p.DB)
	}
	return all
}

// Must runs a syncgate command that has to succeed, and returns its standard output.
func (w *World) Must(args ...string) string {
	w.T.Helper()
	out, errs, code := Run(w.T, w.Env, "syncgate", args...)
	if code != 0 {
		w.T.Fatalf("syncgate %v: exit %d\n%s%s", args, code, out, errs)
	}
	return out
}

// Enrol adds the point at the centre under a name and gives its agent the key.
func (p *Point) Enrol(name string) {
	p.w.T.Helper()
	var key struct {
		Point string `json:"point"`
		KeyID uint32 `json:"key_id"`
		Key   string `json:"key"`
	}
	if err := json.Unmarshal([]byte(p.w.Must("point", "add", name, "--format", "json")), &key); err != nil {
		p.w.T.Fatal(err)
	}
	p.Name = key.Point
	p.Env = append(p.Env, "SYNCGATE_AGENT_POINT="+key.Point, fmt.Sprintf("SYNCGATE_AGENT_KEY_ID=%d", key.KeyID),
		"SYNCGATE_AGENT_KEY="+key.Key)
}

// Enrol adds every point at the centre under its own name.
func (w *World) Enrol() {
	w.T.Helper()
	for _, p := range w.Points {
		p.Enrol(p.Name)
	}
}

// Serve starts the server and gives the agents its address. A second call serves at the address of the first.
func (w *World) Serve() *Process {
	w.T.Helper()
	p := Start(w.T, w.Env, "syncgate", "serve")
	address, _ := p.WaitLog("listening")["address"].(string)
	if address == "" {
		w.T.Fatalf("the server does not say where it listens:\n%s", p.Log())
	}
	if !slices.Contains(w.Env, "SYNCGATE_LISTEN="+address) { // the first time, so that a point's Link stays
		w.Env = append(w.Env, "SYNCGATE_LISTEN="+address)
		for _, p := range w.Points {
			p.Env = append(p.Env, "SYNCGATE_AGENT_SERVER="+address)
		}
	}
	return p
}

// Setting is the last value that the agent's environment has for a name.
func (p *Point) Setting(name string) string {
	p.t.Helper()
	for i := len(p.Env) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(p.Env[i], name+"="); ok {
			return value
		}
	}
	p.t.Fatalf("the agent has no %s", name)
	return ""
}

// Once runs one round of the agent.
func (p *Point) Once(env ...string) (stdout, stderr string, code int) {
	p.t.Helper()
	return Run(p.t, slices.Concat(p.Env, env), "syncgate-agent", "once")
}

// MustOnce runs one round that has to succeed, and returns its report.
func (p *Point) MustOnce(env ...string) string {
	p.t.Helper()
	out, errs, code := p.Once(env...)
	if code != 0 {
		p.t.Fatalf("the round of %s: exit %d\n%s%s", p.Name, code, out, errs)
	}
	return out
}

// Run starts the agent.
func (p *Point) Run(env ...string) *Process {
	p.t.Helper()
	return Start(p.t, slices.Concat(p.Env, env), "syncgate-agent", "run")
}

// Rule writes a row of sync_control at one side: user is server or client. More is names and values of other columns.
func (w *World) Rule(user, kind, table, sync string, more ...string) {
	w.T.Helper()
	db := w.Centre
	if user == "client" {
		db = w.Point.DB
	}
	columns, marks := "sync_table, sync_type, sync_user, sync_point_no, sync_sql", "?, ?, ?, ?, NULLIF(?, '')"
	values := []any{table, kind, user, PointName, sync}
	for i := 0; i+1 < len(more); i += 2 {
		columns, marks, values = columns+", "+more[i], marks+", ?", append(values, more[i+1])
	}
	db.Must("INSERT INTO sync_control ("+columns+") VALUES ("+marks+")", values...)
}

// Key is the key of the point's agent.
func (p *Point) Key() crypto.Key {
	p.t.Helper()
	secret, err := base64.StdEncoding.DecodeString(p.Setting("SYNCGATE_AGENT_KEY"))
	if err != nil || len(secret) != crypto.KeySize {
		p.t.Fatal(len(secret), err)
	}
	id, err := strconv.ParseUint(p.Setting("SYNCGATE_AGENT_KEY_ID"), 10, 32)
	if err != nil {
		p.t.Fatal(err)
	}
	return crypto.Key{Point: p.Name, ID: uint32(id), Secret: [crypto.KeySize]byte(secret)}
}

// Dial shakes hands with the key of the point's agent. The error is the server's refusal.
func (p *Point) Dial() (*harnesstest.Client, error) {
	p.t.Helper()
	return harnesstest.Handshake(p.t, p.Setting("SYNCGATE_AGENT_SERVER"), p.Key())
}
