package store

import (
	"container/list"
	"context"
	"database/sql/driver"
	"fmt"
	"math"

	"github.com/go-sql-driver/mysql"
)

// sessionMode is strict and keeps what was sent: zero dates stay (no NO_ZERO_DATE), 0 in an AUTO_INCREMENT column
// stays 0, CHAR is not padded, a quote is a quote.
const sessionMode = "STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO"

// lockWait bounds how long one upload waits for another's rows, seconds; the default of 50 would hold a worker.
const lockWait = 5

// What one connection keeps prepared at most. The server spends about 530 bytes on each placeholder (measured on
// MariaDB 10.11), so that a connection costs it 17 MB at worst.
const (
	cachedStatements = 64
	cachedMarks      = 32768
)

// mysqlConn is what the driver's connections can do and database/sql asks for.
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

// connector makes connections whose session is set, not inherited.
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
	c := &conn{mysqlConn: dc.(mysqlConn), stmts: map[stmtKey]*list.Element{}, order: list.New()}
	err = c.text(ctx, fmt.Sprintf("SET SESSION time_zone = '+00:00', sql_mode = '%s', innodb_lock_wait_timeout = %d, "+
		"autocommit = 1, foreign_key_checks = 1, unique_checks = 1, sql_safe_updates = 0, sql_auto_is_null = 0",
		sessionMode, lockWait))
	if err == nil {
		err = c.setIsolation(ctx)
	}
	if err != nil {
		_ = dc.Close() // err is the one to return
		return nil, err
	}
	return c, nil
}

// conn is one connection and its prepared statements. It belongs to one goroutine at a time, as database/sql sees to.
type conn struct {
	mysqlConn
	stmts  map[stmtKey]*list.Element // of *cached
	order  *list.List                // the most recently used in front
	marks  int                       // placeholders of all of them
	broken bool                      // a transaction or a result may be left on it: not to be used again

	origin string // the session's @sync_origin; "" is NULL
	known  bool   // the session has a @sync_known

	args  []any // scratch of bind
	named []driver.NamedValue
}

// stmtKey is a statement, and how many tuples its VALUES have when it is one of several rows.
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

// prepared finds or prepares a statement; build makes its text when it has to be prepared.
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
		c.broken = true // the connection is lost; the next statement on it says so
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

// dropStale prepares anew what may have become wrong by a change of the table.
func (c *conn) dropStale(key stmtKey, err error) {
	if k := kindOf(err); k == kindSQL || k == kindRetry {
		if at, ok := c.stmts[key]; ok {
			c.forget(at)
		}
	}
}

// bound is c.args as the driver wants them. ErrMismatch: they are not SQL values, or not as many as the statement has.
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
				return nil, mismatch("the number %v", x) // MariaDB would store 0 and say nothing
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
// statements does not allow it; REPEATABLE READ is right too, with more waiting.
func (c *conn) setIsolation(ctx context.Context) error {
	rows, err := c.QueryContext(ctx, "SELECT IF(@@log_bin = 1 AND @@binlog_format = 'STATEMENT', 'REPEATABLE READ', 'READ COMMITTED')", nil)
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

// inTx runs f in a transaction and commits it. Whatever fails, nothing is left open on the connection.
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
