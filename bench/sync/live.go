package main

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"syncgate/crypto"
	"syncgate/internal/rowset"
	"syncgate/protocol"
	"syncgate/store/localdb"
)

const (
	subscribers = 1000
	inserts     = 200
	idleFor     = 20 * time.Second
	commits     = 10
)

// liveEnv lets all subscribers connect at once from one address.
var liveEnv = []string{"SYNCGATE_HANDSHAKES_PER_SECOND=100000", "SYNCGATE_MAX_CONNECTIONS_PER_ADDRESS=20000"}

// live measures how soon others have a row, with the default settings and real agents, and what many points cost that
// are told of a table.
func live(ctx context.Context, o options) (err error) {
	o.rows, o.points, o.env = 0, subscribers+2, liveEnv
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	if _, err := b.db.ExecContext(ctx,
		"CREATE TABLE live_rows (id BIGINT PRIMARY KEY, n BIGINT NOT NULL)"); err != nil {
		return err
	}
	out, err := b.command("rules", "init", "live_rows", "--point", "*", "--type", "upload,download", "--both",
		"--changes", "--write").CombinedOutput()
	if err != nil {
		return fmt.Errorf("rules init: %w: %s", err, out)
	}
	if err := b.latency(ctx); err != nil {
		return err
	}
	return b.told(ctx)
}

// site is a point with its own database and a running agent.
func (b *bench) site(ctx context.Context, key crypto.Key) (db *sql.DB, stop func() error, err error) {
	server, err := localdb.Start(ctx, localdb.Options{Dir: filepath.Join(b.dir, key.Point), Durable: true})
	if err != nil {
		return nil, nil, err
	}
	b.stops = append(b.stops, server.Stop)
	if err := server.CreateDatabase(ctx, "point"); err != nil {
		return nil, nil, err
	}
	if db, err = sql.Open("mysql", server.DSN("point")); err != nil {
		return nil, nil, err
	}
	b.stops = append(b.stops, db.Close)
	if _, err := db.ExecContext(ctx, "CREATE TABLE live_rows (id BIGINT PRIMARY KEY, n BIGINT NOT NULL)"); err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(filepath.Join(filepath.Dir(b.o.server), "syncgate-agent"), "run")
	cmd.Env = append(os.Environ(), "SYNCGATE_AGENT_DSN="+server.DSN("point"), "SYNCGATE_AGENT_SERVER="+b.address,
		"SYNCGATE_AGENT_POINT="+key.Point, fmt.Sprint("SYNCGATE_AGENT_KEY_ID=", key.ID),
		"SYNCGATE_AGENT_KEY="+base64.StdEncoding.EncodeToString(key.Secret[:]),
		"SYNCGATE_AGENT_DATA_DIR="+filepath.Join(b.dir, key.Point))
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	stop = sync.OnceValue(func() error { return errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()) })
	b.stops = append(b.stops, stop)
	return db, stop, nil
}

// latency inserts rows at one point and looks for each at the centre and at another point.
func (b *bench) latency(ctx context.Context) error {
	from, stopFrom, err := b.site(ctx, b.keys[subscribers])
	if err != nil {
		return err
	}
	to, stopTo, err := b.site(ctx, b.keys[subscribers+1])
	if err != nil {
		return err
	}
	var centre, point []time.Duration
	for id := range inserts {
		if id > 0 { // the first row waits for the agents' start
			time.Sleep(rand.N(400 * time.Millisecond))
		}
		if _, err := from.ExecContext(ctx, "INSERT INTO live_rows VALUES (?, 0)", id); err != nil {
			return err
		}
		began := time.Now()
		if err := appears(ctx, b.db, id); err != nil {
			return err
		}
		atCentre := time.Since(began)
		if err := appears(ctx, to, id); err != nil {
			return err
		}
		if id > 0 {
			centre, point = append(centre, atCentre), append(point, time.Since(began))
		}
	}
	fmt.Printf("From a commit at a point, %d rows, default settings:\n\n| | p50 | p90 | p99 | worst "+
		"|\n|---|---|---|---|---|\n", len(point))
	for _, l := range []struct {
		what  string
		times []time.Duration
	}{{"row at the centre", centre}, {"row at another point (goal p50 150ms, p99 500ms)", point}} {
		slices.Sort(l.times)
		at := func(share float64) time.Duration {
			return l.times[int(share*float64(len(l.times)-1))].Round(time.Millisecond)
		}
		fmt.Printf("| %s | %v | %v | %v | %v |\n", l.what, at(0.5), at(0.9), at(0.99), at(1))
	}
	fmt.Println()
	histogram(point)
	return errors.Join(stopFrom(), stopTo())
}

// histogram prints how many of the times lie in each step of 25 ms.
func histogram(times []time.Duration) {
	const step = 25 * time.Millisecond
	counts := map[int]int{}
	for _, d := range times {
		counts[int(d/step)]++
	}
	for i := range int(times[len(times)-1]/step) + 1 {
		fmt.Printf("    %4d ms  %3d %s\n", i*25, counts[i], strings.Repeat("#", counts[i]))
	}
}

func appears(ctx context.Context, db *sql.DB, id int) error {
	for n := 0; n == 0; {
		if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM live_rows WHERE id = ?", id).Scan(&n); err != nil {
			return err
		}
		if n == 0 {
			time.Sleep(2 * time.Millisecond) // a table tells nobody
		}
	}
	return nil
}

// told measures what subscribed points cost that have nothing to do, and how soon all have one row.
func (b *bench) told(ctx context.Context) error {
	none, err := b.queries(ctx)
	if err != nil {
		return err
	}
	all := make([]*told, subscribers)
	rows, errs := make(chan int, subscribers), make(chan error, subscribers)
	for i := range all {
		c, err := dial(ctx, b.address, b.keys[i], 64<<10)
		if err != nil {
			return fmt.Errorf("subscriber %d: %w", i, err)
		}
		defer c.conn.Close()
		all[i] = &told{client: c, rows: rows}
		if err := all[i].begin(); err != nil {
			return fmt.Errorf("subscriber %d: %w", i, err)
		}
	}
	for _, t := range all {
		go func() { errs <- t.serve() }()
	}
	some, err := b.queries(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("\nQueries a second of an idle server: %.1f; with %d subscribed points %.1f, %.1f more (goal: "+
		"under 5).\n",
		none, subscribers, some, some-none)
	var took []time.Duration
	before, err := b.executed(ctx)
	for i := 0; i < commits && err == nil; i++ {
		began := time.Now()
		err = all[0].upload("live_rows",
			rowset.Rows{Columns: []string{"id", "n"}, Values: []any{int64(1_000_000 + i), int64(i)}})
		for left := subscribers - 1; left > 0 && err == nil; { // it does not get its own row
			select {
			case n := <-rows:
				left -= n
			case err = <-errs:
			case <-time.After(time.Minute):
				err = fmt.Errorf("%d points have not got the row", left)
			}
		}
		took = append(took, time.Since(began))
		time.Sleep(2 * time.Second) // the next one is told at once
	}
	if err != nil {
		return err
	}
	after, err := b.executed(ctx)
	fmt.Printf("One row uploaded and fetched by %d points: median %v, worst %v of %d (goal 1s); %.0f queries for "+
		"each.\n", subscribers-1,
		median(took).Round(time.Millisecond), slices.Max(took).Round(time.Millisecond), commits,
		float64(after-before)/commits)
	return err
}

// queries is how many queries a second the centre's database runs while nobody does anything.
func (b *bench) queries(ctx context.Context) (float64, error) {
	time.Sleep(5 * time.Second) // what was begun ends
	before, err := b.executed(ctx)
	if err != nil {
		return 0, err
	}
	time.Sleep(idleFor)
	after, err := b.executed(ctx)
	return float64(after-before-1) / idleFor.Seconds(), err
}

func (b *bench) executed(ctx context.Context) (n int, err error) {
	var name string
	return n, errors.Join(b.db.QueryRowContext(ctx, "SHOW GLOBAL STATUS LIKE 'Questions'").Scan(&name, &n))
}

// told is a point that asks for the table when it is told of it.
type told struct {
	*client
	state []rowset.StateItem
	rows  chan<- int
}

// begin subscribes and loads the table.
func (t *told) begin() error {
	err := t.send(&protocol.Message{Op: protocol.OpSubscribe,
		Body: &protocol.SubscribeRequest{Tables: []string{"live_rows"}}})
	if err == nil {
		_, err = t.fetch()
	}
	return err
}

// fetch asks for what is new.
func (t *told) fetch() (rows int, err error) {
	for more, again := true, false; more; {
		ask := &protocol.DownloadRequest{Table: "live_rows", State: t.state}
		if err := t.send(&protocol.Message{Op: protocol.OpDownload, Body: ask}); err != nil {
			return rows, err
		}
		for last := false; !last; {
			m, err := t.reply()
			if err != nil {
				return rows, err
			}
			if m.Op == protocol.OpSubscribe { // told again, perhaps of what was committed after the read
				again = true
			}
			if m.Op != protocol.OpDownload {
				continue
			}
			r, err := m.DownloadReply()
			if err != nil {
				return rows, err
			}
			rows += r.Rows().Len()
			if last, more = !m.More(), r.More || again; last {
				t.state, again = r.State, false
			}
		}
	}
	return rows, nil
}

func (t *told) serve() error {
	for {
		m, err := t.reply()
		if err != nil {
			return err
		}
		if m.Op != protocol.OpSubscribe {
			continue
		}
		n, err := t.fetch()
		if err != nil {
			return err
		}
		t.rows <- n
	}
}
