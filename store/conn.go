package store

import (
	"container/list"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"

	"github.com/go-sql-driver/mysql"
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
	err = c.text(ctx, fmt.Sprintf("SET SESSION time_zone = '"+utc.name+"', sql_mode = '%s', innodb_lock_wait_timeout = %d, "+
		"lock_wait_timeout = %d, "+
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

// dropStale forgets a statement that a change of its table may have made wrong, so that it is prepared again. The server
// also keeps a value that was too large with its statement, and refuses every later execution of it.
func (c *conn) dropStale(key stmtKey, err error) {
	const tooLong = 1105
	var my *mysql.MySQLError
	if k := kindOf(err); k == kindSQL || k == kindRetry || errors.As(err, &my) && my.Number == tooLong {
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
	rows, err := c.QueryContext(ctx, `SELECT IF(@@log_bin = 1 AND @@binlog_format = 'STATEMENT',
		'REPEATABLE READ', 'READ COMMITTED')`, nil)
	if err != nil {
		return err
	}
	dest := make([]driver.Value, 1)
	err = rows.Next(dest)
	level := fmt.Sprintf("%s", dest[0])
	if cerr := rows.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return c.text(ctx, "SET SESSION TRANSACTION ISOLATION LEVEL "+level)
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
