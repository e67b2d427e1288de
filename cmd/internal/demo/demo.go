// Package demo shows the main job on this machine: two private databases, the server, an
// agent, rows that go up and rows that come down, and a comparison that trusts neither.
package demo

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"syncgate/agent"
	"syncgate/cmd/internal/database"
	"syncgate/migrations"
	"syncgate/store"
)

// Options say what crosses, and how it is shown.
type Options struct {
	Input string // a TSV file that goes up, perhaps .gz; empty: rows with every awkward thing in them
	Texts string // a file of one base64 text a line, put among the awkward rows where it is there
	Rows  int    // rows that go up, 0 for all of Input, or 20,000; no more than these come down
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
	madeRows  = 20_000
)

// ErrDiffers means that the tables were not the same on both sides at the end.
var ErrDiffers = errors.New("the tables differ")

var errStalled = errors.New("nothing has moved")

// demo is one run of it.
type demo struct {
	Options
	dir           string
	centre, point *side
	server        *server
	address       string // of the server
	key           enrolment
	ends          []func() error // what ends that which was started, the last first
}

// side is a database of the demo with its store.
type side struct {
	*database.Database
	name  string
	db    *sql.DB
	store *store.Store
}

// crossing is a table that crosses.
type crossing struct {
	source
	direction, table string
	from, to         *side
}

// Run runs the demo. It leaves nothing behind. ErrDiffers when the comparison fails.
func Run(ctx context.Context, o Options) (err error) {
	d := &demo{Options: o}
	up, down, err := d.sources()
	if err != nil {
		return err
	}
	if d.dir, err = os.MkdirTemp("", "syncgate-demo-"); err != nil {
		return err
	}
	d.ends = append(d.ends, func() error { return os.RemoveAll(d.dir) })
	defer func() {
		for _, end := range slices.Backward(d.ends) {
			err = errors.Join(err, end())
		}
	}()
	if d.centre, err = d.open(ctx, "centre", migrations.Server); err != nil {
		return err
	}
	if d.point, err = d.open(ctx, "point", migrations.Agent); err != nil {
		return err
	}
	all := []crossing{{up, "upload", upTable, d.point, d.centre}, {down, "download", downTable, d.centre, d.point}}
	for _, c := range all {
		if err := d.load(ctx, c); err != nil {
			return fmt.Errorf("load %s: %w", c.table, err)
		}
	}
	if err := d.serve(ctx); err != nil {
		return err
	}
	for _, c := range all {
		if err := d.cross(ctx, c); err != nil {
			return fmt.Errorf("%s of %s: %w", c.direction, c.table, err)
		}
	}
	err = d.compare(ctx, all)
	if o.Keep && (err == nil || errors.Is(err, ErrDiffers)) {
		d.keep(ctx)
	}
	return err
}

// sources are the rows to cross: those of the input, and made ones.
func (d *demo) sources() (up, down source, err error) {
	texts, err := readTexts(d.Texts)
	if err != nil {
		return up, down, err
	}
	rows := cmp.Or(d.Rows, madeRows)
	down = awkward(min(rows, madeRows), seed, texts)
	if d.Input == "" {
		return awkward(rows, seed+1, texts), down, nil
	}
	up, err = openTSV(d.Input, d.Rows)
	return up, down, err
}

// readTexts reads one base64 text a line; # and empty lines are not texts, and a line that is no base64 is one as it
// stands. A file that is not there has none.
func readTexts(path string) (texts []string, err error) {
	all, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	for line := range strings.Lines(string(all)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if text, err := base64.StdEncoding.DecodeString(line); err == nil {
			line = string(text)
		}
		texts = append(texts, strings.ToValidUTF8(line, "\ufffd"))
	}
	return texts, err
}

// open starts a side's database and gives it its schema.
func (d *demo) open(ctx context.Context, name string, set migrations.Set) (*side, error) {
	s := &side{name: name}
	var err error
	if s.Database, err = database.Open(ctx, database.Options{Dir: filepath.Join(d.dir, name), Name: name, Log: zerolog.Nop()}); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	d.ends = append(d.ends, s.Close)
	if s.db, err = sql.Open("mysql", s.DSN+"?sql_mode=''"); err != nil {
		return nil, err
	}
	d.ends = append(d.ends, s.db.Close)
	if s.store, err = store.Open(ctx, store.Options{DSN: s.DSN, Set: set}); err != nil {
		return nil, err
	}
	d.ends = append(d.ends, s.store.Close)
	var version string
	if err := s.db.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
		return nil, err
	}
	d.say("%-8s  %s, private, durable", s.name, version)
	return s, s.store.Migrate(ctx, nil)
}

// load makes the table on both sides and fills it where it starts from.
func (d *demo) load(ctx context.Context, c crossing) error {
	for _, s := range []*side{c.from, c.to} {
		if err := createTable(ctx, s.db, c.table, c.columns); err != nil {
			return err
		}
	}
	if err := fill(ctx, c.from.db, c.table, c.source, d.progress("load", c.rows)); err != nil {
		return err
	}
	d.say("table     %-10s  %s rows at the %s", c.table, thousands(c.rows), c.from.name)
	return nil
}

// cross writes the direction's rules, with an empty sync_sql, so that syncgate writes the statements, and runs an agent
// until all rows have crossed.
func (d *demo) cross(ctx context.Context, c crossing) error {
	for user, s := range map[string]*side{"server": d.centre, "client": d.point} {
		_, err := s.db.ExecContext(ctx, "INSERT INTO sync_control (sync_table, sync_type, sync_user, sync_point_no, note) VALUES (?, ?, ?, ?, ?)",
			c.table, c.direction, user, point, "sync_sql is empty: syncgate writes the statements")
		if err != nil {
			return err
		}
	}
	var log tail
	o := agent.Options{
		Store: d.point.store, Server: d.address, Point: point, KeyID: d.key.KeyID, Key: [32]byte(d.key.Key),
		RetryMin: 100 * time.Millisecond, RetryMax: time.Second, ReconnectMin: 50 * time.Millisecond, ReconnectMax: time.Second,
		RulesEvery: 200 * time.Millisecond, Log: zerolog.New(&log).With().Timestamp().Logger(),
	}
	if d.Crash {
		o.BatchRows = max(1, min(1000, c.rows/50)) // so that there is a middle to crash in
	}
	a, err := agent.New(o)
	if err != nil {
		return err
	}
	began := time.Now()
	run, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- a.Run(run) }()
	err = d.watch(ctx, a, c)
	took := time.Since(began)
	stop()
	err = errors.Join(err, <-done)
	switch {
	case errors.Is(err, errStalled):
		err = fmt.Errorf("%w\nlog of the server: …%s\nlog of the agent: …%s", err, d.server.log.String(), log.String())
	case err == nil:
		d.say("%-8s  %-10s  %s rows in %.2f s: %s rows/s", c.direction, c.table, thousands(c.rows), took.Seconds(), thousands(int(float64(c.rows)/took.Seconds())))
	}
	return err
}

// watch waits until the agent has moved all rows. In the middle of an upload it may pull the plug.
func (d *demo) watch(ctx context.Context, a *agent.Agent, c crossing) error {
	const stalled = time.Minute // how long nothing may move before the demo gives up
	progress := d.progress(c.direction, c.rows)
	last, at := 0, time.Now()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		now := 0
		var trouble error
		for _, line := range a.Report() {
			if line.Table == c.table && line.Type == c.direction {
				now, trouble = int(line.Rows), line.Err
			}
		}
		progress(now)
		if now > last {
			last, at = now, time.Now()
		}
		switch {
		case d.Crash && c.direction == "upload" && now > c.rows/3:
			d.Crash = false
			if err := d.pullThePlug(ctx, now); err != nil {
				return err
			}
		case now >= c.rows:
			return nil
		case time.Since(at) > stalled:
			return errors.Join(fmt.Errorf("%w for %v; %d of %d rows have", errStalled, stalled, now, c.rows), trouble)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// compare reads the tables on both sides and says whether they are the same.
func (d *demo) compare(ctx context.Context, all []crossing) error {
	var result error
	for _, c := range all {
		centre, err := digestOf(ctx, d.centre.db, c.table, c.columns)
		if err != nil {
			return err
		}
		at, err := digestOf(ctx, d.point.db, c.table, c.columns)
		if err != nil {
			return err
		}
		differ := differences(centre, at)
		verdict := "identical"
		if len(differ) > 0 {
			verdict, result = "DIFFERENT", ErrDiffers
		}
		d.say("compare   %-10s  centre %v, point %v: %s", c.table, centre, at, verdict)
		const most = 5
		for _, line := range differ[:min(len(differ), most)] {
			d.say("          %s", line)
		}
		if more := len(differ) - most; more > 0 {
			d.say("          and %s more", thousands(more))
		}
	}
	return result
}

// keep stays up for somebody to look around.
func (d *demo) keep(ctx context.Context) {
	d.say("\nserver    %s", d.address)
	for _, s := range []*side{d.centre, d.point} {
		d.say("%-8s  DSN %s\n          %s", s.name, s.DSN, s.Private.ClientCommand(s.name))
	}
	d.say("Everything stays up until ^C.")
	<-ctx.Done()
}
