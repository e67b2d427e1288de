package main

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"

	"syncgate/crypto"
	"syncgate/internal/rowset"
	"syncgate/migrations"
	"syncgate/store"
	"syncgate/store/localdb"
)

// columns are a typical row of a detection point.
const columns = "id, url, ip, title, update_time"

const table = ` (id BIGINT UNSIGNED NOT NULL PRIMARY KEY, url VARCHAR(190) NOT NULL, ip VARCHAR(45) NOT NULL,
	title VARCHAR(190) NOT NULL, update_time DATETIME(6) NOT NULL) ENGINE=InnoDB`

// points is how many points there are, unless a measurement needs more.
const points = 64

// bench is a durable MariaDB with a server on it.
type bench struct {
	o       options
	dir     string
	dsn     string
	db      *sql.DB
	address string
	legacy  string // address of the v1 wire
	keys    []crypto.Key
	stops   []func() error
	id      atomic.Int64
	first   []time.Duration
}

func newBench(ctx context.Context, o options) (*bench, error) {
	b := &bench{o: o}
	err := b.start(ctx)
	if err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *bench) start(ctx context.Context) (err error) {
	if b.dir, err = os.MkdirTemp("", "syncgate-bench-"); err != nil {
		return err
	}
	b.stops = append(b.stops, func() error { return os.RemoveAll(b.dir) })
	server, err := localdb.Start(ctx, localdb.Options{Dir: filepath.Join(b.dir, "db"), Durable: true})
	if err != nil {
		return err
	}
	b.stops = append(b.stops, server.Stop)
	if err := server.CreateDatabase(ctx, "bench"); err != nil {
		return err
	}
	b.dsn = server.DSN("bench")
	if b.db, err = sql.Open("mysql", b.dsn); err != nil {
		return err
	}
	b.stops = append(b.stops, b.db.Close)
	if err := b.schema(ctx); err != nil {
		return err
	}
	end, _, err := b.serve(ctx, b.o.env...)
	b.stops = append(b.stops, end)
	return err
}

// schema makes the tables, the rules and the points.
func (b *bench) schema(ctx context.Context) error {
	for _, args := range [][]string{{"migrate"}, {"point", "add", "p0"}} { // the second makes the master key too
		if out, err := b.command(args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", args[0], err, out)
		}
	}
	text, err := os.ReadFile(filepath.Join(b.dir, "data", "master.key"))
	if err != nil {
		return err
	}
	master, err := crypto.ParseMasterKey(text)
	if err != nil {
		return err
	}
	st, err := store.Open(ctx, store.Options{DSN: b.dsn, Set: migrations.Server})
	if err != nil {
		return err
	}
	defer st.Close()
	for i := range max(points, b.o.points) {
		key := crypto.Key{Point: fmt.Sprintf("point-%02d", i)}
		copy(key.Secret[:], fmt.Sprintf("%032d", i))
		key.ID, err = st.AddPoint(ctx, key.Point, "", func(id uint32) []byte {
			return master.Wrap(crypto.Key{Point: key.Point, ID: id, Secret: key.Secret})
		})
		if err != nil {
			return err
		}
		b.keys = append(b.keys, key)
	}
	for _, q := range []string{
		"CREATE TABLE up_rows" + table, "CREATE TABLE down_rows" + table,
		"INSERT INTO sync_control (sync_table, sync_type, sync_user, sync_sql) VALUES ('up_rows', 'upload', " +
			"'server', '-- downside: insert\ninsert into up_rows (id, url, ip, title, update_time) values (:id, " +
			":url, :ip, :title, :update_time)')",
		"INSERT INTO sync_control (sync_table, sync_type, sync_user, sync_sql) VALUES ('down_rows', 'download', " +
			"'server', '-- upside\nselect id, url, ip, title, update_time from down_rows')",
	} {
		if _, err := b.db.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	for left := b.o.rows; left > 0; left -= 1000 {
		n := min(left, 1000)
		if _, err := b.db.ExecContext(ctx, insert("down_rows", n), b.rows(n).Values...); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) command(args ...string) *exec.Cmd {
	cmd := exec.Command(b.o.server, args...)
	cmd.Env = append(os.Environ(), "SYNCGATE_DSN="+b.dsn, "SYNCGATE_DATA_DIR="+filepath.Join(b.dir, "data"),
		"SYNCGATE_LISTEN=127.0.0.1:0", "SYNCGATE_LOG_FORMAT=json", "SYNCGATE_LOG_LEVEL=info")
	return cmd
}

// serve starts a server and remembers its address. The returned function stops it in order.
func (b *bench) serve(ctx context.Context, env ...string) (stop func() error, pid int, err error) {
	cmd := b.command("serve")
	cmd.Env = append(cmd.Env, env...)
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return func() error { return nil }, 0, err
	}
	stop = func() error { return errors.Join(cmd.Process.Signal(syscall.SIGTERM), cmd.Wait()) }
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		var said struct{ Message, Address, Legacy string }
		if json.Unmarshal(lines.Bytes(), &said) == nil && said.Message == "listening" {
			b.address, b.legacy = said.Address, said.Legacy
			go func() {
				for lines.Scan() { // keep the pipe from filling
				}
			}()
			return stop, cmd.Process.Pid, nil
		}
	}
	return func() error { return nil }, 0, fmt.Errorf("the server ended before it listened: %w", cmd.Wait())
}

// close stops what was started, the last first.
func (b *bench) close() error {
	var err error
	for i := len(b.stops) - 1; i >= 0; i-- {
		err = errors.Join(err, b.stops[i]())
	}
	return err
}

// rows makes n rows that were never there before.
func (b *bench) rows(n int) rowset.Rows {
	r := rowset.Rows{Columns: strings.Split(columns, ", "), Values: make([]any, 0, 5*n)}
	for id := b.id.Add(int64(n)) - int64(n); n > 0; n-- {
		id++
		r.Values = append(r.Values, id, fmt.Sprintf("http://host-%d.example.org/path/%d", id%1000, id),
			fmt.Sprintf("10.%d.%d.%d", id>>16&255, id>>8&255, id&255),
			"Please confirm your account", "2026-01-02 03:04:05.678901")
	}
	return r
}

func insert(into string, rows int) string {
	return "INSERT INTO " + into + " (" + columns + ") VALUES " +
		strings.TrimSuffix(strings.Repeat("(?,?,?,?,?),", rows), ",")
}

// together runs work on n goroutines for the length of a measurement and counts the rows they moved.
func (b *bench) together(ctx context.Context, n int,
	work func(ctx context.Context, i int, moved func(int)) error) (int, time.Duration, error) {
	limit, stop := context.WithTimeout(ctx, b.o.length)
	defer stop()
	var rows atomic.Int64
	errs := make([]error, n)
	var all sync.WaitGroup
	began := time.Now()
	for i := range n {
		all.Go(func() {
			errs[i] = work(limit, i, func(n int) { rows.Add(int64(n)) })
		})
	}
	all.Wait()
	return int(rows.Load()), time.Since(began), errors.Join(append(errs, ctx.Err())...)
}

// uploads is syncgate's side: each of n points sends one batch after the other, as an agent does for one table.
func (b *bench) uploads(n, size int) func(context.Context) (int, time.Duration, error) {
	return func(ctx context.Context) (int, time.Duration, error) {
		clients := make([]*client, n)
		for i := range clients {
			var err error
			if clients[i], err = dial(ctx, b.address, b.keys[i], readBuffer); err != nil {
				return 0, 0, err
			}
			defer clients[i].conn.Close()
		}
		return b.together(ctx, n, func(ctx context.Context, i int, moved func(int)) error {
			for ctx.Err() == nil {
				if err := clients[i].upload("up_rows", b.rows(size)); err != nil {
					return err
				}
				if err := clients[i].acknowledged(size); err != nil {
					return err
				}
				moved(size)
			}
			return nil
		})
	}
}

// How the driver commits a batch: one prepared statement that is a transaction by itself, the same with its values in
// the text, or a prepared statement between BEGIN and COMMIT.
type manner int

const (
	prepared manner = iota
	interpolated
	explicit
)

// inserts is the driver's side: each of n connections commits one batch after the other.
func (b *bench) inserts(n, size int, how manner) func(context.Context) (int, time.Duration, error) {
	return func(ctx context.Context) (int, time.Duration, error) {
		db, err := b.open(how == interpolated, n)
		if err != nil {
			return 0, 0, err
		}
		defer db.Close()
		return b.together(ctx, n, func(limit context.Context, _ int, moved func(int)) error {
			conn, err := db.Conn(ctx)
			if err != nil {
				return err
			}
			defer conn.Close()
			query := insert("up_rows", size)
			execute := func(args ...any) error { _, err := conn.ExecContext(ctx, query, args...); return err }
			if how != interpolated {
				st, err := conn.PrepareContext(ctx, query)
				if err != nil {
					return err
				}
				defer st.Close()
				execute = func(args ...any) error { _, err := st.ExecContext(ctx, args...); return err }
				if how == explicit {
					execute = func(args ...any) error { return inTx(ctx, conn, st, args) }
				}
			}
			for limit.Err() == nil {
				if err := execute(b.rows(size).Values...); err != nil {
					return err
				}
				moved(size)
			}
			return nil
		})
	}
}

// inTx runs a statement between BEGIN and COMMIT.
func inTx(ctx context.Context, conn *sql.Conn, st *sql.Stmt, args []any) error {
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if _, err := tx.StmtContext(ctx, st).ExecContext(ctx, args...); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func (b *bench) open(interpolate bool, conns int) (*sql.DB, error) {
	cfg, err := mysql.ParseDSN(b.dsn)
	if err != nil {
		return nil, err
	}
	cfg.InterpolateParams = interpolate
	cfg.MaxAllowedPacket = 64 << 20
	db, err := sql.Open("mysql", cfg.FormatDSN())
	if err == nil {
		db.SetMaxOpenConns(conns)
		db.SetMaxIdleConns(conns)
	}
	return db, err
}

// downloads reads the table through the server, every row decoded.
func (b *bench) downloads(ctx context.Context) (int, time.Duration, error) {
	c, err := dial(ctx, b.address, b.keys[0], readBuffer)
	if err != nil {
		return 0, 0, err
	}
	defer c.conn.Close()
	began := time.Now()
	rows, first, err := c.download("down_rows")
	if err == nil && rows != b.o.rows {
		err = fmt.Errorf("%d of %d rows came", rows, b.o.rows)
	}
	b.first = append(b.first, first)
	return rows, time.Since(began), err
}

// selects reads the table with the driver, every row scanned into values.
func (b *bench) selects(text bool) func(context.Context) (int, time.Duration, error) {
	return func(ctx context.Context) (int, time.Duration, error) {
		db, err := b.open(false, 1)
		if err != nil {
			return 0, 0, err
		}
		defer db.Close()
		began := time.Now()
		query, args := "SELECT "+columns+" FROM down_rows", []any(nil)
		if !text {
			query, args = query+" WHERE id > ?", []any{0}
		}
		rows, err := db.QueryContext(ctx, query, args...)
		if err != nil {
			return 0, 0, err
		}
		defer rows.Close()
		n := 0
		var id int64
		var url, ip, title, at string
		for rows.Next() {
			if err := rows.Scan(&id, &url, &ip, &title, &at); err != nil {
				return n, 0, err
			}
			n++
		}
		return n, time.Since(began), rows.Err()
	}
}
