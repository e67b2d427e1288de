// Package demo shows the main job on this machine: two private databases, the server, an
// agent, rows that go up and rows that come down, and a comparison that trusts neither.
package demo

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"syncgate/agent"
	"syncgate/migrations"
	"syncgate/store"
	"syncgate/store/localdb"
)

// Options say what crosses, and how it is shown.
type Options struct {
	Input string // a TSV file that goes up, perhaps .gz; empty: rows with every awkward thing in them
	Texts string // a file of one base64 text a line, put among the awkward rows where it is there
	Rows  int    // rows of Input to use, 0 for all; without Input how many are made, 0 for 20,000
	Keep  bool   // stay up at the end until ctx ends
	Crash bool   // kill -9 the server in the middle of the upload, and start it again

	Out      io.Writer
	Progress bool   // Out is a terminal: show progress in place
	Program  string // the syncgate executable that serves
}

// Names of the tables that cross, and of the point.
const (
	upTable   = "packages"
	downTable = "watch_list"
	point     = "point-01"
	seed      = 20
	downRows  = 20_000
)

// ErrDiffers means that the tables were not the same on both sides at the end.
var ErrDiffers = errors.New("the tables differ")

// demo is one run of it.
type demo struct {
	Options
	dir     string
	centre  *side
	point   *side
	server  *server
	address string
	key     enrolment
	logs    []*os.File
}

// side is a database of the demo with its store.
type side struct {
	name   string
	server *localdb.Server
	dsn    string
	db     *sql.DB
	store  *store.Store
	stop   func() error
}

// Run runs the demo. It leaves nothing behind. ErrDiffers when the comparison fails.
func Run(ctx context.Context, o Options) (err error) {
	d := &demo{Options: o}
	if d.dir, err = os.MkdirTemp("", "syncgate-demo-"); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, d.stop(), os.RemoveAll(d.dir))
	}()
	up, down, err := d.sources()
	if err != nil {
		return err
	}
	if err := d.databases(ctx); err != nil {
		return err
	}
	if err := d.load(ctx, up, down); err != nil {
		return err
	}
	if err := d.serve(ctx); err != nil {
		return err
	}
	if err := d.cross(ctx, "upload", upTable, up.rows); err != nil {
		return err
	}
	if err := d.cross(ctx, "download", downTable, down.rows); err != nil {
		return err
	}
	err = d.compare(ctx, map[string][]column{upTable: up.columns, downTable: down.columns})
	if o.Keep && (err == nil || errors.Is(err, ErrDiffers)) {
		d.keep(ctx)
	}
	return err
}

// sources are the rows to cross: those of the input, and made ones.
func (d *demo) sources() (up, down source, err error) {
	var texts []string
	if d.Texts != "" {
		if texts, err = readTexts(d.Texts); err != nil && !errors.Is(err, os.ErrNotExist) {
			return up, down, err
		}
	}
	down = awkward(downRows, seed, texts)
	if d.Input == "" {
		rows := d.Rows
		if rows == 0 {
			rows = downRows
		}
		return awkward(rows, seed+1, texts), down, nil
	}
	file, err := inspect(d.Input, d.Rows)
	if err != nil {
		return up, down, err
	}
	return file.source(), down, nil
}

// readTexts reads one base64 text a line; # and empty lines are not texts, and a line that is no base64 is one as it
// stands.
func readTexts(path string) ([]string, error) {
	all, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var texts []string
	for line := range strings.SplitSeq(string(all), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		text, err := base64.StdEncoding.DecodeString(line)
		if err != nil {
			text = []byte(line)
		}
		texts = append(texts, strings.ToValidUTF8(string(text), "\ufffd"))
	}
	return texts, nil
}

// databases starts both databases and gives them their schema.
func (d *demo) databases(ctx context.Context) (err error) {
	if d.centre, err = openSide(ctx, "centre", filepath.Join(d.dir, "centre"), migrations.Server); err != nil {
		return err
	}
	if d.point, err = openSide(ctx, "point", filepath.Join(d.dir, "point"), migrations.Agent); err != nil {
		return err
	}
	for _, s := range []*side{d.centre, d.point} {
		var version string
		if err := s.db.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
			return err
		}
		d.say("%-8s  %s, private, durable", s.name, version)
	}
	return nil
}

func openSide(ctx context.Context, name, dir string, set migrations.Set) (*side, error) {
	s := &side{name: name}
	var err error
	if s.server, err = localdb.New(localdb.Options{Dir: dir, Durable: true}); err != nil {
		return nil, err
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- s.server.Run(run) }()
	s.stop = func() error { cancel(); return <-done }
	if err = s.open(ctx, set); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), s.close())
	}
	return s, nil
}

func (s *side) open(ctx context.Context, set migrations.Set) error {
	if err := s.server.WaitReady(ctx); err != nil {
		return err
	}
	if err := s.server.CreateDatabase(ctx, s.name); err != nil {
		return err
	}
	s.dsn = s.server.DSN(s.name)
	var err error
	if s.db, err = sql.Open("mysql", s.dsn+"?sql_mode=''"); err != nil {
		return err
	}
	if s.store, err = store.Open(ctx, store.Options{DSN: s.dsn, Set: set}); err != nil {
		return err
	}
	return s.store.Migrate(ctx, nil)
}

func (s *side) close() error {
	var err error
	if s.store != nil {
		err = s.store.Close()
	}
	if s.db != nil {
		err = errors.Join(err, s.db.Close())
	}
	return errors.Join(err, s.stop())
}

// load makes the tables on both sides, fills each where it starts from, and writes the
// rules: all of them with an empty sync_sql, so that syncgate writes the statements.
func (d *demo) load(ctx context.Context, up, down source) error {
	for _, t := range []struct {
		name string
		source
		full, empty *side
	}{{upTable, up, d.point, d.centre}, {downTable, down, d.centre, d.point}} {
		for _, s := range []*side{t.full, t.empty} {
			if err := createTable(ctx, s.db, t.name, t.columns); err != nil {
				return err
			}
		}
		progress := d.progress("load", t.rows)
		if err := fill(ctx, t.full.db, t.name, t.source, progress); err != nil {
			return fmt.Errorf("load %s: %w", t.name, err)
		}
		d.say("table     %-10s  %s rows at the %s", t.name, thousands(t.rows), t.full.name)
	}
	return nil
}

// cross writes the direction's rules and runs an agent until all rows have crossed.
func (d *demo) cross(ctx context.Context, direction, table string, rows int) error {
	for user, s := range map[string]*side{"server": d.centre, "client": d.point} {
		_, err := s.db.ExecContext(ctx, "INSERT INTO sync_control (sync_table, sync_type, sync_user, sync_point_no, note) VALUES (?, ?, ?, ?, ?)",
			table, direction, user, point, "sync_sql is empty: syncgate writes the statements")
		if err != nil {
			return err
		}
	}
	log, err := d.log("agent")
	if err != nil {
		return err
	}
	a, err := agent.New(agent.Options{
		Store: d.point.store, Server: d.address, Point: point, KeyID: d.key.ID, Key: d.key.Secret,
		RetryMin: 100 * time.Millisecond, RetryMax: time.Second, ReconnectMin: 50 * time.Millisecond, ReconnectMax: time.Second,
		RulesEvery: 200 * time.Millisecond, Log: zerolog.New(log).With().Timestamp().Logger(),
	})
	if err != nil {
		return err
	}
	began := time.Now()
	run, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- a.Run(run) }()
	err = d.watch(ctx, a, direction, table, rows)
	took := time.Since(began)
	stop()
	if err = errors.Join(err, <-done); err != nil {
		return fmt.Errorf("%s of %s: %w", direction, table, err)
	}
	d.say("%-8s  %-10s  %s rows in %.2f s: %s rows/s", direction, table, thousands(rows), took.Seconds(), thousands(int(float64(rows)/took.Seconds())))
	return nil
}

// stalled is how long nothing may move before the demo gives up.
const stalled = time.Minute

// watch waits until the agent has moved all rows. In the middle of an upload it may pull the plug.
func (d *demo) watch(ctx context.Context, a *agent.Agent, direction, table string, rows int) error {
	progress := d.progress(direction, rows)
	last, at := 0, time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		now := 0
		var trouble error
		for _, line := range a.Report() {
			if line.Table == table && line.Type == direction {
				now, trouble = int(line.Rows), line.Err
			}
		}
		progress(now)
		if now >= rows {
			return nil
		}
		if now > last {
			last, at = now, time.Now()
		}
		if time.Since(at) > stalled {
			return errors.Join(fmt.Errorf("nothing has moved for %v; %d of %d rows have", stalled, now, rows), trouble, d.logTail())
		}
		if d.Crash && direction == "upload" && now > rows/3 {
			d.Crash = false
			if err := d.pullThePlug(ctx, now); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// compare reads both tables on both sides and says whether they are the same.
func (d *demo) compare(ctx context.Context, tables map[string][]column) error {
	var result error
	for _, table := range []string{upTable, downTable} {
		centre, err := digestOf(ctx, d.centre.db, table, tables[table])
		if err != nil {
			return err
		}
		at, err := digestOf(ctx, d.point.db, table, tables[table])
		if err != nil {
			return err
		}
		verdict := "identical"
		if !centre.identical(at) {
			verdict = "DIFFERENT"
			result = ErrDiffers
		}
		d.say("compare   %-10s  centre %s rows %v, point %s rows %v: %s", table, thousands(centre.rows), centre, thousands(at.rows), at, verdict)
		for _, line := range differences(centre, at, 5) {
			d.say("          %s", line)
		}
	}
	return result
}

// keep stays up for somebody to look around.
func (d *demo) keep(ctx context.Context) {
	d.say("")
	d.say("server    %s", d.address)
	for _, s := range []*side{d.centre, d.point} {
		d.say("%-8s  DSN %s", s.name, s.dsn)
		d.say("          %s", s.server.ClientCommand(s.name))
	}
	d.say("Everything stays up until ^C.")
	<-ctx.Done()
}

// stop ends what was started, the last first.
func (d *demo) stop() error {
	var err error
	if d.server != nil {
		err = d.server.stop()
	}
	for _, s := range []*side{d.point, d.centre} {
		if s != nil {
			err = errors.Join(err, s.close())
		}
	}
	for _, f := range d.logs {
		err = errors.Join(err, f.Close())
	}
	return err
}
