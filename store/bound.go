package store

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"syncgate/rule"
)

// A row whose time comes from the database's clock has the time at which its statement began, and is seen when its
// transaction is committed. So reading by time stops at the bound: the beginning of the oldest statement or transaction
// that may still commit a row.

const (
	boundEvery = time.Second // one answer serves all rules for so long
	// boundGap is how old the list of statements must be when the list of transactions is read. innodb_trx is a copy
	// of 0.1 s ago: a statement that has ended since then is in neither.
	boundGap      = 110 * time.Millisecond
	boundOld      = 3 * time.Second  // an older list says too little
	heldAfter     = 10 * time.Second // a bound that lies farther behind the clock is reported
	askPrivilege  = time.Minute
	noPrivilege   = 1227
	stepTolerance = time.Second
)

// moment is an instant in UTC, and as the zone of the database's other clients shows it, which is kept as UTC too.
type moment struct{ utc, local time.Time }

func (m moment) in(local bool) time.Time {
	if local {
		return m.local
	}
	return m.utc
}

// clock is what the database says about its time.
type clock struct {
	now     moment
	safe    moment    // every row of a statement that began before it is committed, as far as the account may see
	waiting []started // statements that wait for a table; they are not in safe
	held    string    // who keeps safe behind now, in words; "" when nobody does
}

// bounds asks for the clock.
type bounds struct {
	mu      sync.Mutex
	asked   time.Time // the last time
	clock   clock
	running writers   // of that answer
	unseen  time.Time // when the account was last refused the transactions of others
	told    string
}

// started is a statement or a transaction.
type started struct {
	moment
	id   uint64 // of its connection
	what string // statement or transaction
	text string // of a statement that waits for a table, in lower case
}

// writers are the statements that may write.
type writers struct {
	oldest  started // what begins now when there is none
	waiting []started
}

// notWriting is how a statement begins that writes no row, or none that its table has not had.
const notWriting = `'^(\\s|[(]|/[*][\\s\\S]*?[*]/|(--|#)[^\\n]*\\n)*(select|show|explain|describe|desc|do|` +
	`set\\s+(?!statement)|use|kill|flush|lock|unlock|check|checksum|help|alter|create|drop|rename|truncate|` +
	`optimize|repair|analyze\\s+(\\w+\\s+)?table)\\b'`

// runningSQL gives now, and the beginnings of statements, each in both zones; the connection of each, and the text
// where it waits for a table. MySQL knows the age of a statement in seconds only.
func (s *Store) runningSQL() string {
	age := "(time + 1) * 1000000"
	if s.mariadb {
		age = "time_ms * 1000"
	}
	return `SELECT UTC_TIMESTAMP(6), ` + s.toLocal("UTC_TIMESTAMP(6)", "'+00:00'") + `, s.id, s.began, ` +
		s.toLocal("s.began", "'+00:00'") + `, s.waits FROM (SELECT 1) AS one LEFT JOIN (
		SELECT id, UTC_TIMESTAMP(6) - INTERVAL ` + age + ` MICROSECOND AS began,
			IF(state LIKE 'Waiting for %metadata lock', LOWER(LEFT(info, 10000)), NULL) AS waits
		FROM information_schema.processlist
		WHERE command NOT IN ('Sleep', 'Daemon', 'Binlog Dump') AND id <> CONNECTION_ID() AND info IS NOT NULL
			AND info NOT RLIKE ` + notWriting + ` ORDER BY began LIMIT 1000) AS s ON TRUE`
}

// openSQL gives the oldest transaction that has modified rows. trx_started is in the zone of the host and has no
// fraction, so it is never too late.
func (s *Store) openSQL() string {
	return `SELECT trx_mysql_thread_id, CONVERT_TZ(trx_started, 'SYSTEM', '+00:00'), ` +
		s.toLocal("trx_started", "'SYSTEM'") + ` FROM information_schema.innodb_trx
		WHERE trx_rows_modified > 0 AND trx_mysql_thread_id <> CONNECTION_ID() ORDER BY trx_started LIMIT 1`
}

// toLocal is a time of another zone in that of the database's other clients.
func (s *Store) toLocal(expr, from string) string {
	return "CONVERT_TZ(" + expr + ", " + from + ", " + s.zoneSQL() + ")"
}

// clockOf is the database's clock, at most a second old.
func (s *Store) clockOf(ctx context.Context, c *conn) (clock, error) {
	b := &s.bounds
	b.mu.Lock()
	defer b.mu.Unlock()
	first, age := b.asked.IsZero(), time.Since(b.asked)
	if !first && age < s.boundEvery {
		return b.clock, nil
	}
	asked := time.Now()
	now, running, err := s.runningNow(ctx, c)
	if err != nil {
		return clock{}, err
	}
	before := b.running
	if first || age < boundGap || age > boundOld {
		before = running
		select {
		case <-time.After(boundGap):
		case <-ctx.Done():
			return clock{}, ctx.Err()
		}
	}
	oldest := before.oldest
	open, err := s.openNow(ctx, c)
	if err != nil {
		return clock{}, err
	}
	if open != nil && open.utc.Before(oldest.utc) {
		oldest = *open
	}
	if !first {
		s.lookForStep(b.clock.now, now, asked.Sub(b.asked))
	}
	next := clock{now: now, safe: oldest.moment, waiting: before.waiting}
	behind := now.utc.Sub(oldest.utc)
	if local := now.local.Add(-behind); local.Before(next.safe.local) {
		next.safe.local = local // the local clock went back after the oldest had begun
	}
	if behind > heldAfter {
		next.held = fmt.Sprintf("connection %d has a %s open since %s UTC", oldest.id, oldest.what,
			oldest.utc.Format(time.DateTime))
	}
	b.asked, b.clock, b.running = asked, next, running
	if next.held != "" && next.held != b.told {
		err := fmt.Errorf("%s; rows that were written after it wait for its end", next.held)
		s.count(boundHeld, oldest.what, 1, err)
	}
	b.told = next.held
	return next, nil
}

// runningNow gives now and the statements that may write.
func (s *Store) runningNow(ctx context.Context, c *conn) (now moment, r writers, err error) {
	err = c.ask(ctx, s.runningSQL(), func(v []any) (err error) {
		if now, err = asMoment(v[0], v[1]); err != nil || v[2] == nil {
			return err
		}
		found := started{id: asUint(v[2]), what: "statement"}
		found.text, _ = v[5].(string)
		if found.moment, err = asMoment(v[3], v[4]); found.text != "" {
			r.waiting = append(r.waiting, found)
		} else if r.oldest.id == 0 {
			r.oldest = found
		}
		return err
	})
	if r.oldest.id == 0 {
		r.oldest.moment = now
	}
	return now, r, err
}

// openNow is the oldest transaction that has modified rows; nil when there is none, or the account may not see it.
func (s *Store) openNow(ctx context.Context, c *conn) (oldest *started, err error) {
	b := &s.bounds
	if !b.unseen.IsZero() && time.Since(b.unseen) < askPrivilege {
		return nil, nil
	}
	err = c.ask(ctx, s.openSQL(), func(v []any) error {
		at, err := asMoment(v[1], v[2])
		oldest = &started{moment: at, id: asUint(v[0]), what: "transaction"}
		return err
	})
	b.unseen = time.Time{}
	if isNumber(err, noPrivilege) {
		b.unseen = time.Now()
		return nil, nil
	}
	return oldest, err
}

// SeesTransactions reports whether the account may see the transactions of others, which takes the privilege PROCESS.
func (s *Store) SeesTransactions(ctx context.Context) (bool, error) {
	_, err := s.bounds.ask(ctx, s)
	s.bounds.mu.Lock()
	defer s.bounds.mu.Unlock()
	return s.bounds.unseen.IsZero(), err
}

// HeldBack is how far transactions and statements that are open keep reading by time behind the clock.
func (s *Store) HeldBack(ctx context.Context) (time.Duration, error) {
	now, err := s.bounds.ask(ctx, s)
	return now.now.utc.Sub(now.safe.utc), err
}

// Held says which connection keeps rows that were written after it from being read by time; "" when none does.
func (s *Store) Held(ctx context.Context) (string, error) {
	now, err := s.bounds.ask(ctx, s)
	return now.held, err
}

func (b *bounds) ask(ctx context.Context, s *Store) (now clock, err error) {
	err = s.retry(ctx, func(c *conn) (err error) {
		now, err = s.clockOf(ctx, c)
		return err
	})
	return now, err
}

// lookForStep reports a clock that went back. What is written from then on may have times that have been read already;
// lateRows finds it.
func (s *Store) lookForStep(was, now moment, took time.Duration) {
	for _, local := range []bool{false, true} {
		if back := was.in(local).Add(took).Sub(now.in(local)); back > stepTolerance {
			s.count(clockSteps, strconv.FormatBool(local), 1, fmt.Errorf("it went back by %v to %s",
				back.Round(time.Millisecond), now.in(local).Format(time.DateTime)))
		}
	}
}

// bound is the time up to which the rows of a plan may be read, as a column shows it that holds times of the server's
// own zone (local) and so many digits of a fraction.
func (c *clock) bound(p *rule.Plan, local bool, digits int) string {
	at := c.now.in(local).Add(-p.Lag)
	if safe := c.safe.in(local); safe.Before(at) {
		at = safe
	}
	// A statement that waits for a table has written nothing. It holds back the tables that it names.
	table := strings.ToLower(p.Row.Table[strings.LastIndex(p.Row.Table, ".")+1:])
	for _, w := range c.waiting {
		if began := w.in(local); began.Before(at) && strings.Contains(w.text, table) {
			at = began
		}
	}
	unit := time.Second
	for range digits {
		unit /= 10
	}
	at = at.Truncate(unit).Add(-unit) // a row of that very unit may be uncommitted
	return timeText(at, digits)
}

// timeText is a time as a column with so many digits of a fraction shows it, so that texts compare as times do.
func timeText(at time.Time, digits int) string {
	layout := time.DateTime
	if digits > 0 {
		layout += "." + strings.Repeat("0", digits)
	}
	return at.Format(layout)
}

func asMoment(utc, local any) (m moment, err error) {
	if m.utc, err = asTime(utc); err == nil {
		m.local, err = asTime(local)
	}
	return m, err
}

// asTime reads a time as the database writes it.
func asTime(v any) (time.Time, error) {
	text, _ := v.(string)
	return time.Parse(time.DateTime, text)
}

// holders are the queries for the sessions that hold a table. Which one a server answers depends on its plugins.
var holders = []string{
	`SELECT DISTINCT p.id, p.user, p.command, p.time FROM information_schema.metadata_lock_info m
		JOIN information_schema.processlist p ON p.id = m.thread_id
		WHERE m.table_schema = COALESCE(NULLIF(?, ''), DATABASE()) AND m.table_name = ?
			AND p.state NOT LIKE 'Waiting for %'`,
	`SELECT DISTINCT p.id, p.user, p.command, p.time FROM performance_schema.metadata_locks m
		JOIN performance_schema.threads t ON t.thread_id = m.owner_thread_id
		JOIN information_schema.processlist p ON p.id = t.processlist_id
		WHERE m.object_schema = COALESCE(NULLIF(?, ''), DATABASE()) AND m.object_name = ?
			AND m.lock_status = 'GRANTED'`,
}

// lockedError says who holds a table that a statement has waited for in vain.
type lockedError struct {
	error
	who string
}

func (e *lockedError) Error() string { return e.error.Error() + "; " + e.who }
func (e *lockedError) Unwrap() error { return e.error }

// explainLock adds the holders of a plan's table to an error after a wait for a lock.
func (s *Store) explainLock(ctx context.Context, p *rule.Plan, err error) error {
	if !errors.Is(err, ErrRetry) || causeOf(err) != "lock_wait" {
		return err
	}
	schema, table := splitName(p.Row.Table)
	for _, q := range holders {
		var who []string
		failed := s.each(ctx, q, func(scan scanner) error {
			var id, seconds int64
			var user, command string
			err := scan(&id, &user, &command, &seconds)
			who = append(who, fmt.Sprintf("connection %d (%s, %s)", id, user, strings.ToLower(command)))
			return err
		}, schema, table)
		if failed == nil && len(who) > 0 {
			return &lockedError{err, "the table " + p.Row.Table + " is held by " + strings.Join(who, ", ")}
		}
	}
	where := "a session holds the table " + p.Row.Table + " by LOCK TABLES, an open transaction or ALTER TABLE; " +
		"INSTALL SONAME 'metadata_lock_info' makes the database show which"
	if held, failed := s.Held(ctx); failed == nil && held != "" {
		where = "perhaps the table " + p.Row.Table + " is held by another session: " + held
	}
	return &lockedError{err, where}
}
