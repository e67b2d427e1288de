package store

import (
	"container/list"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"

	"syncgate/rule"
)

// sessionMode is strict and keeps values as they were sent: zero dates stay (no NO_ZERO_DATE), 0 in an AUTO_INCREMENT
// column stays 0, CHAR is not padded, and " quotes a string.
const sessionMode = "STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO"

// lockWait is the time, in seconds, for which a statement waits for rows that another has locked, and for a table that
// another has locked or alters. MySQL's defaults of 50 and of a day would block a worker.
const lockWait = 5

// Limits of the prepared statements of one connection. The server needs about 530 bytes for each placeholder (measured
// on MariaDB 10.11), so that a connection needs 17 MB at worst.
const (
	cachedStatements = 64
	cachedMarks      = 32768
)

// mysqlConn lists the methods of the driver's connections that database/sql uses.
type mysqlConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
	driver.NamedValueChecker
}

// connector makes connections and sets every session variable that matters.
type connector struct{ driver.Connector }

func newConnector(cfg *mysql.Config) (*connector, error) {
	cfg.ParseTime = false // temporal values stay MySQL's own text
	cfg.InterpolateParams = false
	cfg.MultiStatements = false
	cfg.AllowAllFiles = false
	cfg.RejectReadOnly = false
	cfg.ClientFoundRows = true // an UPDATE that matched a row and changed nothing has taken it
	cfg.MaxAllowedPacket = 0   // ask the server
	cfg.Collation = "utf8mb4_general_ci"
	cfg.Logger = &mysql.NopLogger{} // errors are returned
	if err := cfg.Apply(mysql.Charset("utf8mb4", cfg.Collation)); err != nil {
		return nil, err
	}
	inner, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return &connector{inner}, nil
}

// Connect implements driver.Connector.
func (k *connector) Connect(ctx context.Context) (driver.Conn, error) {
	dc, err := k.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	c := &conn{mysqlConn: dc.(mysqlConn), stmts: map[stmtKey]*list.Element{}, order: list.New(), zone: utc.name}
	err = c.text(ctx, fmt.Sprintf("SET SESSION time_zone = '"+utc.name+"', sql_mode = '%s', "+
		"innodb_lock_wait_timeout = %d, lock_wait_timeout = %d, "+
		"autocommit = 1, foreign_key_checks = 1, unique_checks = 1, sql_safe_updates = 0, sql_auto_is_null = 0",
		sessionMode, lockWait, lockWait))
	if err == nil {
		err = c.setIsolation(ctx)
	}
	if err != nil {
		_ = dc.Close() // err is the one to return
		return nil, err
	}
	return c, nil
}

// conn is one connection and its prepared statements. database/sql gives it to one goroutine at a time.
type conn struct {
	mysqlConn
	stmts  map[stmtKey]*list.Element // of *cached
	order  *list.List                // the most recently used in front
	marks  int                       // placeholders of all of them
	broken bool                      // not to be used again: a transaction or a result may still be open on it

	zone   string // the session's time_zone; "": it is not known
	origin string // the session's @sync_origin; "" is NULL
	known  bool   // the session has a @sync_known

	args  []any // scratch of bind
	named []driver.NamedValue
}

// stmtKey is a statement and, when it inserts several rows, the number of tuples in its VALUES.
type stmtKey struct {
	sql    string
	tuples int
}

type cached struct {
	key  stmtKey
	stmt preparedStmt
}

type preparedStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

// text runs a statement without values by the text protocol.
func (c *conn) text(ctx context.Context, q string) error {
	_, err := c.ExecContext(ctx, q, nil)
	return err
}

// prepared finds a statement or prepares it; build then makes its text.
func (c *conn) prepared(ctx context.Context, key stmtKey, build func() string) (preparedStmt, error) {
	if at, ok := c.stmts[key]; ok {
		c.order.MoveToFront(at)
		return at.Value.(*cached).stmt, nil
	}
	st, err := c.PrepareContext(ctx, build())
	if err != nil {
		return nil, err
	}
	for c.order.Len() > 0 && (c.order.Len() >= cachedStatements || c.marks+st.NumInput() > cachedMarks) {
		c.forget(c.order.Back())
	}
	c.marks += st.NumInput()
	made := &cached{key: key, stmt: st.(preparedStmt)}
	c.stmts[key] = c.order.PushFront(made)
	return made.stmt, nil
}

func (c *conn) forget(at *list.Element) {
	old := c.order.Remove(at).(*cached)
	delete(c.stmts, old.key)
	c.marks -= old.stmt.NumInput()
	if old.stmt.Close() != nil {
		c.broken = true // the connection is lost; the next statement on it returns the error
	}
}

// exec runs a prepared statement with c.args bound and returns the rows it matched.
func (c *conn) exec(ctx context.Context, key stmtKey, build func() string) (int64, error) {
	st, err := c.prepared(ctx, key, build)
	if err != nil {
		return 0, err
	}
	args, err := c.bound(st)
	if err != nil {
		return 0, err
	}
	res, err := st.ExecContext(ctx, args)
	if err != nil {
		c.dropStale(key, err)
		return 0, err
	}
	return res.RowsAffected()
}

// do runs a statement with these values and returns the rows it matched.
func (c *conn) do(ctx context.Context, q string, args ...any) (int64, error) {
	c.args = append(c.args[:0], args...)
	return c.exec(ctx, stmtKey{sql: q}, func() string { return q })
}

// each runs statements over n rows, at most so many in one, and returns the rows they matched. add appends the values
// of a row to c.args.
func (c *conn) each(ctx context.Context, t rule.InsertParts, n, most int, add func(i int) error) (
	matched int64, err error,
) {
	for from, size := 0, 0; from < n; from += size {
		size = chunkSize(min(n-from, most))
		c.args = c.args[:0]
		for i := range size {
			if err := add(from + i); err != nil {
				return matched, err
			}
		}
		m, err := c.exec(ctx, stmtKey{t.Head, size}, func() string { return t.Rows(size) })
		if err != nil {
			return matched, err
		}
		matched += m
	}
	return matched, nil
}

// inLists calls f with a list of marks, as in (?, ?), and its values, until all have been in one. The first value fills
// a list up to one of a few lengths, so that there are few different statements.
func inLists(all []any, f func(list string, values []any) error) error {
	for len(all) > 0 {
		size := chunkUp(len(all))
		n := min(len(all), size)
		if err := f(marks(size), slices.Concat(all[:n], slices.Repeat(all[:1], size-n))); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

// marks are n placeholders in brackets.
func marks(n int) string { return "(" + strings.Repeat(", ?", n)[2:] + ")" }

// bind sets the values of the next statement.
func (c *conn) bind(st *rule.Statement, e *rule.Env, row []any) (err error) {
	if c.args, err = st.Bind(c.args[:0], e, row); err != nil {
		return mismatch("%v", err)
	}
	return nil
}

// read runs a rule's query of few rows.
func (c *conn) read(ctx context.Context, st *rule.Statement, e *rule.Env, row []any, each func(v []any) error) error {
	if err := c.bind(st, e, row); err != nil {
		return err
	}
	return c.scan(ctx, st.SQL, each)
}

// ask runs a query of few rows with these values.
func (c *conn) ask(ctx context.Context, q string, row func(v []any) error, args ...any) error {
	c.args = append(c.args[:0], args...)
	return c.scan(ctx, q, row)
}

// scan runs a query of few rows with c.args bound and reads it to its end.
func (c *conn) scan(ctx context.Context, q string, row func(v []any) error) error {
	rows, err := c.query(ctx, q)
	if err != nil {
		return err
	}
	cols := columnsOf(rows)
	dest, values := make([]driver.Value, len(cols)), make([]any, len(cols))
	var failed error
	var texts arena
	for {
		err := rows.Next(dest)
		if errors.Is(err, io.EOF) {
			return errors.Join(failed, rows.Close())
		}
		if err != nil {
			return errors.Join(err, rows.Close())
		}
		if failed == nil {
			texts.convertRow(values, dest, cols)
			failed = row(values)
		}
	}
}

// query runs a prepared statement with c.args bound.
func (c *conn) query(ctx context.Context, sql string) (driver.Rows, error) {
	key := stmtKey{sql: sql}
	st, err := c.prepared(ctx, key, func() string { return sql })
	if err != nil {
		return nil, err
	}
	args, err := c.bound(st)
	if err != nil {
		return nil, err
	}
	rows, err := st.QueryContext(ctx, args)
	if err != nil {
		c.dropStale(key, err)
	}
	return rows, err
}

// dropStale forgets a statement that a change of its table may have made wrong, so that it is prepared again. The
// server also keeps a value that was too large with its statement, and refuses every later execution of it.
func (c *conn) dropStale(key stmtKey, err error) {
	const tooLong = 1105
	if k := kindOf(err); k == kindSQL || k == kindRetry || isNumber(err, tooLong) {
		if at, ok := c.stmts[key]; ok {
			c.forget(at)
		}
	}
}

// bound is c.args as the driver takes them. ErrMismatch: they are not SQL values, or their number is wrong.
func (c *conn) bound(st driver.Stmt) ([]driver.NamedValue, error) {
	if st.NumInput() != len(c.args) {
		return nil, mismatch("%d values for %d placeholders", len(c.args), st.NumInput())
	}
	c.named = c.named[:0]
	for i, v := range c.args {
		switch x := v.(type) {
		case nil, int64, uint64, string:
		case float64:
			if math.IsNaN(x) || math.IsInf(x, 0) {
				return nil, mismatch("the number %v", x) // MariaDB would store 0 without an error
			}
		case []byte:
			if x == nil {
				v = []byte{} // the driver takes nil bytes for NULL
			}
		default:
			return nil, mismatch("a value of type %T", v)
		}
		c.named = append(c.named, driver.NamedValue{Ordinal: i + 1, Value: v})
	}
	return c.named, nil
}

// setIsolation chooses READ COMMITTED, under which an UPDATE that matches nothing locks no gap. A binary log of
// statements does not allow that level; there REPEATABLE READ is correct too, with more waiting.
func (c *conn) setIsolation(ctx context.Context) error {
	level := any(nil)
	err := c.ask(ctx, "SELECT IF(@@log_bin = 1 AND @@binlog_format = 'STATEMENT', 'REPEATABLE READ', 'READ COMMITTED')",
		func(v []any) error { level = v[0]; return nil })
	if err != nil {
		return err
	}
	return c.text(ctx, fmt.Sprint("SET SESSION TRANSACTION ISOLATION LEVEL ", level))
}

// inTx runs f in a transaction and commits it. After an error no transaction is open on the connection.
func (c *conn) inTx(ctx context.Context, f func() error) error {
	if err := c.text(ctx, "START TRANSACTION"); err != nil {
		return err
	}
	err := f()
	if err == nil {
		err = c.text(ctx, "COMMIT")
	}
	if err != nil {
		c.rollback(ctx)
	}
	return err
}

func (c *conn) rollback(ctx context.Context) {
	if c.broken {
		return
	}
	if c.text(context.WithoutCancel(ctx), "ROLLBACK") != nil {
		c.broken = true
	}
}
