package test

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql" // the driver of every test

	"syncgate/internal/harness/harnesstest"
	"syncgate/store/localdb"
)

// DB is a database as an application sees it. Each of its methods fails the test when the database refuses.
type DB struct {
	*sql.DB
	DSN    string
	server *localdb.Server // its own; nil when it shares the test binary's
	t      testing.TB
}

// Open opens a database until the test ends.
func Open(t testing.TB, dsn string) *DB {
	t.Helper()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return &DB{DB: db, DSN: dsn, t: t}
}

func (db *DB) waitLimit() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), harnesstest.Patience)
}

// Must runs a statement.
func (db *DB) Must(query string, args ...any) {
	db.t.Helper()
	ctx, cancel := db.waitLimit()
	defer cancel()
	if _, err := db.ExecContext(ctx, query, args...); err != nil {
		db.t.Fatalf("%v in %.200s", err, query)
	}
}

// Count returns the one number of a query.
func (db *DB) Count(query string, args ...any) (n int) {
	db.t.Helper()
	db.one(&n, query, args)
	return n
}

// Text returns the one text of a query, which may be NULL.
func (db *DB) Text(query string, args ...any) string {
	db.t.Helper()
	var text sql.NullString
	db.one(&text, query, args)
	return text.String
}

func (db *DB) one(to any, query string, args []any) {
	db.t.Helper()
	ctx, cancel := db.waitLimit()
	defer cancel()
	if err := db.QueryRowContext(ctx, query, args...).Scan(to); err != nil {
		db.t.Fatalf("%v in %s", err, query)
	}
}

// Sum is the number of rows of a query and a checksum of them that does not depend on their order.
func (db *DB) Sum(query string) string {
	db.t.Helper()
	ctx, cancel := db.waitLimit()
	defer cancel()
	// The argument makes the server answer in the binary protocol, in which no digit of a FLOAT is lost.
	rows, err := db.QueryContext(ctx, "SELECT * FROM ("+query+") rows_of WHERE ? = 1", 1)
	if err != nil {
		db.t.Fatalf("%v in %s", err, query)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		db.t.Fatal(err)
	}
	values, scan := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		scan[i] = &values[i]
	}
	n, all := 0, new(big.Int)
	for rows.Next() {
		if err := rows.Scan(scan...); err != nil {
			db.t.Fatal(err)
		}
		hash := sha256.Sum256(fmt.Appendf(nil, "%#v", values))
		all.Add(all, new(big.Int).SetBytes(hash[:]))
		n++
	}
	if err := rows.Err(); err != nil {
		db.t.Fatal(err)
	}
	return fmt.Sprintf("%d rows %x", n, all)
}

// Checksum is what CHECKSUM TABLE says.
func (db *DB) Checksum(table string) string {
	db.t.Helper()
	var name, sum string
	ctx, cancel := db.waitLimit()
	defer cancel()
	if err := db.QueryRowContext(ctx, "CHECKSUM TABLE "+table+" EXTENDED").Scan(&name, &sum); err != nil {
		db.t.Fatalf("checksum of %s: %v", table, err)
	}
	return sum
}

// Eventually waits until a query gives the number.
func (db *DB) Eventually(want int, query string, args ...any) {
	db.t.Helper()
	got := -1
	Eventually(db.t, func() string { return fmt.Sprintf("%s gives %d, not %d", query, got, want) }, func() bool {
		got = db.Count(query, args...)
		return got == want
	})
}

// Kill kills the database's own server as a power cut would. It is started again at once, and Kill returns when it
// answers.
func (db *DB) Kill() {
	db.t.Helper()
	before := db.server.PID()
	if before == 0 {
		db.t.Fatal("the database is down")
	}
	if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
		db.t.Fatal(err)
	}
	Eventually(db.t, func() string { return "the database is started again" },
		func() bool { pid := db.server.PID(); return pid != 0 && pid != before })
}

// Freeze stops the database's own server in its tracks, as a machine does that is suspended, until thaw is called.
func (db *DB) Freeze() (thaw func()) {
	db.t.Helper()
	pid := db.server.PID()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		db.t.Fatal(err)
	}
	thaw = sync.OnceFunc(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	db.t.Cleanup(thaw)
	return thaw
}

// Eventually waits until is returns true. It is for what reports no change, such as a table.
func Eventually(t testing.TB, what func() string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(harnesstest.Patience); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", harnesstest.Patience, what())
		}
	}
}

// AtLeast waits until a query gives at least the number. It also counts uncommitted rows, because the test looks for
// the middle of a transfer.
func (db *DB) AtLeast(want int, query string) {
	db.t.Helper()
	ctx, cancel := db.waitLimit()
	defer cancel()
	for got := 0; got < want; {
		tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadUncommitted, ReadOnly: true})
		if err == nil {
			err = errors.Join(tx.QueryRowContext(ctx, query).Scan(&got), tx.Rollback())
		}
		if err != nil {
			db.t.Fatalf("%s gave %d, and %d is waited for: %v", query, got, want, err)
		}
	}
}
