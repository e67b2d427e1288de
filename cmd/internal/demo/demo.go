// Package demo shows the main job on this machine: two private databases, the server, an agent, rows that go up, rows
// that come down, and a comparison that does not use syncgate's own code.
package demo

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"syncgate/agent"
	"syncgate/cmd/internal/database"
	"syncgate/internal/harness"
	"syncgate/internal/text"
	"syncgate/migrations"
	"syncgate/store"
)

// Options say which rows are synced, and how that is shown.
type Options struct {
	Input string // a TSV file to upload, perhaps .gz; empty: made rows with every awkward value in them
	Texts string // a file of base64 texts, one a line, put among the made rows; the file may be missing
	Rows  int    // rows to upload; 0: all of Input, or 20,000. At most as many are downloaded
	Keep  bool   // stay up at the end until ctx ends
	Crash bool   // kill -9 the server in the middle of the upload, and start it again

	Out      io.Writer
	Progress bool   // Out is a terminal: show progress in place
	Program  string // the syncgate executable that serves
}

const (
	point    = "point-01"
	madeRows = 20_000 // rows made by default
)

// ErrDiffers means that the tables were not the same on both sides at the end.
var ErrDiffers = errors.New("the tables differ")

// demo is one run.
type demo struct {
	Options
	dir           string
	centre, point *side
	server        *harness.Process
	address       string // of the server
	key           enrolment
	shown         time.Time      // when progress was shown last
	ends          []func() error // end what was started, the last first
}

// side is a database of the demo, opened also with the plain driver.
type side struct {
	*database.Database
	name string
	db   *sql.DB
}

// crossing is a table that is synced.
type crossing struct {
	direction, table string
	from, to         *side
	rows             int
}

// Run runs the demo. It leaves nothing behind. It returns ErrDiffers when the comparison fails.
func Run(ctx context.Context, o Options) (err error) {
	d := &demo{Options: o}
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
	all := []crossing{
		{direction: "upload", table: "packages", from: d.point, to: d.centre},
		{direction: "download", table: "watch_list", from: d.centre, to: d.point},
	}
	for i := range all {
		if err := d.load(ctx, &all[i]); err != nil {
			return fmt.Errorf("load %s: %w", all[i].table, err)
		}
	}
	if err := d.enrol(ctx); err != nil {
		return err
	}
	for _, c := range all {
		if err := d.sync(ctx, c); err != nil {
			return fmt.Errorf("%s of %s: %w", c.direction, c.table, err)
		}
	}
	err = d.compare(ctx, all)
	if o.Keep && (err == nil || errors.Is(err, ErrDiffers)) {
		d.keep(ctx)
	}
	return err
}

// open starts a side's database and gives it its schema.
func (d *demo) open(ctx context.Context, name string, set migrations.Set) (s *side, err error) {
	s = &side{name: name}
	o := database.Options{Dir: filepath.Join(d.dir, name), Name: name, Log: zerolog.Nop()}
	if s.Database, err = database.Open(ctx, o, store.Options{Set: set}); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	d.ends = append(d.ends, s.Close)
	if s.db, err = sql.Open("mysql", s.DSN+"?sql_mode=''"); err != nil {
		return nil, err
	}
	d.ends = append(d.ends, s.db.Close)
	var version string
	if err := s.db.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
		return nil, err
	}
	d.say("%-8s  %s, private, durable", s.name, version)
	return s, s.Migrate(ctx, nil)
}

// load makes the table on both sides and fills it where it starts from.
func (d *demo) load(ctx context.Context, c *crossing) error {
	db, err := c.from.db.Conn(ctx) // one connection, for a temporary table and its warnings
	if err != nil {
		return err
	}
	defer db.Close()
	rows := cmp.Or(d.Rows, madeRows)
	switch {
	case c.direction == "download":
		err = loadAwkward(ctx, db, c.table, min(rows, madeRows), d.Texts)
	case d.Input == "":
		err = loadAwkward(ctx, db, c.table, rows, d.Texts)
	default:
		err = loadTSV(ctx, db, c.table, d.Rows, d.Input)
	}
	if err != nil {
		return err
	}
	if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+c.table).Scan(&c.rows); err != nil {
		return err
	}
	var name, definition string
	if err := db.QueryRowContext(ctx, "SHOW CREATE TABLE "+c.table).Scan(&name, &definition); err != nil {
		return err
	}
	d.say("table     %-10s  %s rows at the %s", c.table, text.Digits(c.rows), c.from.name)
	_, err = c.to.db.ExecContext(ctx, definition)
	return err
}

// sync writes the direction's rules and runs an agent until all rows have been synced. sync_sql stays empty: syncgate
// writes the statements.
func (d *demo) sync(ctx context.Context, c crossing) error {
	for user, s := range map[string]*side{"server": d.centre, "client": d.point} {
		_, err := s.db.ExecContext(ctx, "INSERT INTO sync_control (sync_table, sync_type, sync_user, sync_point_no) "+
			"VALUES (?, ?, ?, ?)", c.table, c.direction, user, point)
		if err != nil {
			return err
		}
	}
	log, err := os.Create(filepath.Join(d.dir, "agent.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	o := agent.Options{
		Store: d.point.Store, Server: d.address, Point: point, KeyID: d.key.KeyID, Key: [32]byte(d.key.Key),
		RetryMin: 100 * time.Millisecond, RetryMax: time.Second,
		ReconnectMin: 50 * time.Millisecond, ReconnectMax: time.Second,
		RulesEvery: 200 * time.Millisecond, Log: zerolog.New(log).With().Timestamp().Logger(),
	}
	if d.Crash {
		o.BatchRows = max(1, min(1000, c.rows/50)) // enough batches to crash between two of them
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
	if err = errors.Join(err, <-done); err != nil {
		text, _ := os.ReadFile(log.Name()) // what can be read of it helps
		return fmt.Errorf("%w\nlog of the server: …%s\nlog of the agent: …%s",
			err, tail(d.server.Log()), tail(string(text)))
	}
	rate := int(float64(c.rows) / took.Seconds())
	d.say("%-8s  %-10s  %s rows in %.2f s: %s rows/s",
		c.direction, c.table, text.Digits(c.rows), took.Seconds(), text.Digits(rate))
	return nil
}

// tail is the end of a log.
func tail(log string) string { return log[max(0, len(log)-4000):] }

// watch waits until the agent has synced all rows. With Crash it kills the server in the middle of the upload.
func (d *demo) watch(ctx context.Context, a *agent.Agent, c crossing) error {
	const stalled = time.Minute // without any progress
	last, at := 0, time.Now()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		var line agent.Line
		for _, l := range a.Report() {
			if l.Table == c.table && l.Type == c.direction {
				line = l
			}
		}
		now := int(line.Rows)
		d.progress(c, now)
		if now > last {
			last, at = now, time.Now()
		}
		switch {
		case d.Crash && c.direction == "upload" && now > c.rows/3:
			d.Crash = false
			if err := d.crash(ctx, now); err != nil {
				return err
			}
		case now >= c.rows:
			return nil
		case time.Since(at) > stalled:
			err := fmt.Errorf("no progress for %v; %d of %d rows are synced", stalled, now, c.rows)
			return errors.Join(err, line.Err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// compare reads the tables on both sides and says whether they are the same.
func (d *demo) compare(ctx context.Context, all []crossing) (result error) {
	for _, c := range all {
		centre, err := harness.ReadRows(ctx, d.centre.db, c.table)
		if err != nil {
			return err
		}
		point, err := harness.ReadRows(ctx, d.point.db, c.table)
		if err != nil {
			return err
		}
		verdict := "identical"
		differ := centre.Differences(point)
		if len(differ) > 0 {
			verdict, result = "DIFFERENT", ErrDiffers
		}
		d.say("compare   %-10s  centre %s rows %016x, point %s rows %016x: %s", c.table,
			text.Digits(len(centre)), centre.Sum(), text.Digits(len(point)), point.Sum(), verdict)
		if len(differ) > 0 {
			first := strings.Join(differ[:min(len(differ), 5)], ", ")
			d.say("          %s, the first with id %s", text.Plural(len(differ), "different row"), first)
		}
	}
	return result
}

// keep stays up so that a person can look around.
func (d *demo) keep(ctx context.Context) {
	d.say("\nserver    %s", d.address)
	for _, s := range []*side{d.centre, d.point} {
		d.say("%-8s  DSN %s\n          %s", s.name, s.DSN, s.Private.ClientCommand(s.name))
	}
	d.say("Everything stays up until ^C.")
	<-ctx.Done()
}

// say prints a line, over what progress may have left.
func (d *demo) say(format string, args ...any) {
	line := strings.TrimRight(fmt.Sprintf(format, args...), " ")
	if d.Progress {
		line = "\r\x1b[K" + line
	}
	fmt.Fprintln(d.Out, line)
}

// progress shows on a terminal how many rows are synced, ten times a second at most.
func (d *demo) progress(c crossing, rows int) {
	if !d.Progress || time.Since(d.shown) < 100*time.Millisecond {
		return
	}
	d.shown = time.Now()
	const width = 30
	percent := min(100, 100*rows/max(c.rows, 1))
	filled := width * percent / 100
	bar := strings.Repeat("█", filled) + strings.Repeat("░", width-filled)
	fmt.Fprintf(d.Out, "\r\x1b[K%-8s  %s %3d %%  %s", c.direction, bar, percent, text.Digits(rows))
}

// enrolment is what `point add` prints.
type enrolment struct {
	KeyID uint32 `json:"key_id"`
	Key   []byte `json:"key"` // 32 bytes
}

// enrol enrols the point and starts the server, both by the commands that a person would use.
func (d *demo) enrol(ctx context.Context) error {
	var errs bytes.Buffer
	add := d.command(ctx, "point", "add", point, "--format", "json")
	add.Stderr = &errs
	out, err := add.Output()
	if err == nil {
		err = json.Unmarshal(out, &d.key)
	}
	if err == nil && len(d.key.Key) != 32 {
		err = errors.New("no key")
	}
	if err != nil {
		return fmt.Errorf("point add: %w %s", err, errs.Bytes())
	}
	d.address = "127.0.0.1:0"
	if err := d.serve(ctx); err != nil {
		return err
	}
	d.ends = append(d.ends, func() error { return d.server.Stop(time.Minute) })
	d.say("server    %s, point %s enrolled", d.address, point)
	return nil
}

// command is a syncgate command on the centre's database. It does not see settings made for a real server.
func (d *demo) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, d.Program, args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "SYNCGATE_") })
	cmd.Env = append(cmd.Env, "SYNCGATE_LOG_FORMAT=json",
		"SYNCGATE_DSN="+d.centre.DSN, "SYNCGATE_DATA_DIR="+filepath.Join(d.dir, "server"))
	return cmd
}

// serve starts the server at d.address and waits until it listens.
func (d *demo) serve(ctx context.Context) (err error) {
	d.server, err = harness.Start(d.command(context.WithoutCancel(ctx), "serve", "--listen", d.address))
	if err != nil {
		return err
	}
	line, err := d.server.WaitLog(ctx, "listening")
	if err != nil {
		_ = d.server.Kill() // it may have ended, which err says
		return fmt.Errorf("the server does not start: %w", err)
	}
	d.address = fmt.Sprint(line["address"])
	return nil
}

// crash kills the server as a power cut would, and starts another in its place.
func (d *demo) crash(ctx context.Context, rows int) error {
	if err := d.server.Kill(); err != nil {
		return err
	}
	d.say("crash     server killed with -9 after %s rows were acknowledged", text.Digits(rows))
	began := time.Now()
	if err := d.serve(ctx); err != nil {
		return err
	}
	d.say("          started again in %.2f s", time.Since(began).Seconds())
	return nil
}
