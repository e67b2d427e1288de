package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"syncgate/internal/limit"
	"syncgate/migrations"
	"syncgate/rule"
)

// Options of Open. Only DSN is required.
type Options struct {
	DSN          string         // of go-sql-driver/mysql; what it says about the session is overridden
	MaxConns     int            // connections at most
	AcceptUnsafe bool           // open although a setting of the server breaks the promise, see ErrUnsafe
	AnyEngine    bool           // let rules write into tables that do not roll back, too
	Zone         string         // time_zone of the database's other clients; default its own
	Set          migrations.Set // which schema Migrate makes; default migrations.Server
	FileRoot     string         // directory of the `file` operation; empty: such rules are refused
	RowWait      time.Duration  // how long a row waits in sync_quarantine for the one it refers to
	KeepChanges  time.Duration  // how long deletes wait for a reader of changes that does not come

	QuarantineRows int // rows of one point in sync_quarantine
	LedgerRows     int // requests of one outbox that its point may leave unconfirmed
}

// Limits are the options' defaults and bounds.
func (o *Options) Limits() []limit.Limit {
	return []limit.Limit{
		limit.Count("MaxConns", &o.MaxConns, 16, 1, 100_000),
		limit.Time("RowWait", &o.RowWait, 10*time.Minute, time.Millisecond, 30*24*time.Hour),
		limit.Time("KeepChanges", &o.KeepChanges, 30*24*time.Hour, time.Hour, 10*365*24*time.Hour),
		limit.Count("QuarantineRows", &o.QuarantineRows, 100_000, 1, 1_000_000_000),
		limit.Count("LedgerRows", &o.LedgerRows, 10_000, 100, 1_000_000_000),
	}
}

func (o *Options) setDefaults() error {
	if o.Set == "" {
		o.Set = migrations.Server
	}
	return limit.Fill("store", o.Limits())
}

// Store is a database and the connections to it. It may be used by any number of goroutines.
type Store struct {
	o         Options
	db        *sql.DB
	prober    *sql.DB          // one connection beside the others, so that Probe does not wait for them
	place     string           // of the database, for messages
	columns   columns          // of sync_control
	maxPacket int              // the server's max_allowed_packet, bytes
	floors    passed[outboxID] // what the points have confirmed
	version   string           // of the server

	quarantined quarantined
	readers     passed[readerID] // the changes that readers have
	observer    Observer         // may be nil

	mariadb bool
	zones   zones
	bounds  bounds
	late    late

	outageWait, purgeEvery, boundEvery, lateEvery time.Duration // shorter in tests
}

// Open connects and checks the server's settings. It starts no goroutine besides those of the connection pool.
// ErrUnavailable: the server does not answer. ErrUnsafe: the server could lose acknowledged rows;
// Options.AcceptUnsafe opens it nevertheless.
func Open(ctx context.Context, o Options) (*Store, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	cfg, err := mysql.ParseDSN(o.DSN)
	if err != nil {
		return nil, fmt.Errorf("store: the DSN: %w", err)
	}
	place := fmt.Sprintf("database %s at %s", cfg.DBName, cfg.Addr)
	s := &Store{o: o, place: place, columns: columns(rule.ControlColumns()), outageWait: outageWait,
		purgeEvery: purgeEvery, boundEvery: boundEvery, lateEvery: lateEvery}
	link, err := newConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("store: the DSN: %w", err)
	}
	s.db = sql.OpenDB(link)
	s.db.SetMaxOpenConns(o.MaxConns)
	s.db.SetMaxIdleConns(o.MaxConns)
	s.db.SetConnMaxIdleTime(5 * time.Minute) // below wait_timeout of any sane server
	s.prober = sql.OpenDB(link)
	s.prober.SetMaxOpenConns(1)
	if err := s.inspect(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// inspect refuses a server that could lose acknowledged rows, and reads the largest packet it takes.
func (s *Store) inspect(ctx context.Context) error {
	facts, err := s.Facts(ctx)
	if err != nil {
		return err
	}
	s.maxPacket, s.version, s.mariadb = facts.MaxPacket, facts.Version, strings.Contains(facts.Version, "MariaDB")
	if bad := facts.Unsafe(); len(bad) > 0 && !s.o.AcceptUnsafe {
		return fmt.Errorf("%w: %s", ErrUnsafe, strings.Join(bad, "; "))
	}
	return nil
}

// MaxPacket is the server's max_allowed_packet, the most bytes of one statement with its values.
func (s *Store) MaxPacket() int { return s.maxPacket }

// Version is that of the database server.
func (s *Store) Version() string { return s.version }

// Close ends every connection; the server rolls back open transactions.
func (s *Store) Close() error { return errors.Join(s.prober.Close(), s.db.Close()) }

// Probe asks the database for an answer.
func (s *Store) Probe(ctx context.Context) error {
	return public(s.prober.QueryRowContext(ctx, "SELECT 1").Scan(new(int)))
}

// PoolStats are those of the connections.
func (s *Store) PoolStats() sql.DBStats { return s.db.Stats() }

// withConn runs f on a connection of the pool. A connection whose state is unknown is not given back.
func (s *Store) withConn(ctx context.Context, f func(c *conn) error) error {
	sc, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer sc.Close()
	return onConn(sc, f)
}

func onConn(sc *sql.Conn, f func(c *conn) error) error {
	var ferr error
	ran := false
	err := sc.Raw(func(dc any) error {
		c := dc.(*conn)
		ran, ferr = true, f(c)
		if c.broken || kindOf(ferr) == kindLost {
			c.broken = true
			return errBadConn // database/sql closes it; what f said is the error to tell
		}
		return nil
	})
	if ran {
		return ferr
	}
	return err
}

const (
	attemptsRetry = 10                         // runs of one transaction that meets deadlocks
	limitRetry    = 2 * lockWait * time.Second // of their time, so that a lock that stays does not block a worker
	pauseRetry    = 2 * time.Millisecond
	pauseLost     = 10 * time.Millisecond
	pauseMost     = 250 * time.Millisecond
	outageWait    = 2 * time.Second // how long a statement waits for a server that is gone
)

// retry runs f until it succeeds, fails for good, or reaches a limit. Each run of f begins anew.
func (s *Store) retry(ctx context.Context, f func(c *conn) error) error {
	began := time.Now()
	for attempt := 1; ; attempt++ {
		err := s.withConn(ctx, f)
		pause := pauseLost
		switch kindOf(err) {
		case kindRetry:
			if attempt >= attemptsRetry || time.Since(began) >= limitRetry {
				return public(err)
			}
			pause = pauseRetry
		case kindLost:
			if time.Since(began) >= s.outageWait {
				return public(err)
			}
		default:
			return public(err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.count(Retries, causeOf(err), 1, nil)
		pause = min(pause<<min(attempt, 8), pauseMost)
		pause = time.Duration(float64(pause) * (0.5 + rand.Float64()/2))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
