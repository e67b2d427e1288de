package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// The errors of this package. errors.As finds a *SQLError, a *RowError or a *MismatchError.
var (
	ErrUnavailable = errors.New("store: the database is not available")          // later
	ErrReadOnly    = errors.New("store: the database takes no writes")           // later
	ErrRetry       = errors.New("store: others held the rows for too long")      // soon
	ErrAltered     = fmt.Errorf("%w: a table was altered meanwhile", ErrRetry)   // soon
	ErrReused      = errors.New("store: this request id was used for something") // never: a new id is needed
	ErrMismatch    = errors.New("store: the rows do not fit the rule")           // never
	ErrFile        = errors.New("store: the rule's file could not be written")   // later
	// ErrQuarantineFull: later, when somebody has looked at the point's rows there.
	ErrQuarantineFull = errors.New("store: sync_quarantine has as many rows of the point as quarantine_rows allows")

	ErrNoTable  = errors.New("store: no such table")
	ErrNotFound = errors.New("store: no such row")
	ErrExists   = errors.New("store: it exists already")
	ErrUnsafe   = errors.New("store: the server's settings would lose acknowledged rows")
	ErrKeyInUse = errors.New("store: the key that the point uses would be revoked")
	ErrEnough   = errors.New("store: enough rows") // returned by a Sink, see there
	ErrFull     = fmt.Errorf("%w before this one", ErrEnough)

	errBadConn = driver.ErrBadConn
)

// SQLError is a statement that the database refuses for every row: a missing table, a missing privilege, a syntax
// error. Nothing of the transaction was kept.
type SQLError struct {
	Code      int    // MySQL's number
	Message   string // the database's; may hold values of rows
	Statement string // of a rule, with ? for its values; else empty
}

func (e *SQLError) Error() string {
	text := fmt.Sprintf("store: SQL error %d: %s", e.Code, e.Message)
	if e.Statement != "" {
		text += " in " + e.Statement
	}
	return text
}

// MismatchError says why rows do not fit the rule. It is ErrMismatch, and holds no values of rows.
type MismatchError struct{ Reason string }

func (e *MismatchError) Error() string { return ErrMismatch.Error() + ": " + e.Reason }
func (e *MismatchError) Unwrap() error { return ErrMismatch }

func mismatch(format string, args ...any) error {
	return &MismatchError{Reason: fmt.Sprintf(format, args...)}
}

// RowError is the first row that no operation took, of a rule that asks for all or nothing. Nothing was kept.
type RowError struct {
	Row    int // from 0
	Code   int // MySQL's number
	Reason string
}

func (e *RowError) Error() string {
	return fmt.Sprintf("store: row %d refused: error %d: %s", e.Row, e.Code, e.Reason)
}

// kind is the consequence of an error.
type kind uint8

const (
	kindNone      kind = iota
	kindNotFromDB      // not the database's: a sentinel, the caller's context, a sink
	kindRow            // this row cannot be taken: the next operation, or quarantine
	kindSQL            // the statement is wrong for every row
	kindRetry          // the same transaction may succeed when it is run again
	kindLost           // the server or the connection is gone; whether the last statement ran is unknown
	kindReadOnly       // the server takes no writes
)

// kindOf classifies every error.
func kindOf(err error) kind {
	var my *mysql.MySQLError
	switch {
	case err == nil:
		return kindNone
	case errors.As(err, &my):
		return kindOfNumber(my)
	case errors.Is(err, mysql.ErrPktTooLarge):
		return kindRow // found before anything was sent
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return kindNotFromDB
	case isNotFromDB(err):
		return kindNotFromDB
	}
	return kindLost // network errors, ErrInvalidConn, ErrBadConn, a packet that makes no sense
}

// notFromDBError marks an error that did not come from the database.
type notFromDBError struct{ error }

func (e notFromDBError) Unwrap() error { return e.error }

func notFromDB(err error) error {
	if err == nil {
		return nil
	}
	return notFromDBError{err}
}

func isNotFromDB(err error) bool {
	_, marked := errors.AsType[notFromDBError](err)
	_, row := errors.AsType[*RowError](err)
	return marked || row || slices.ContainsFunc([]error{
		ErrReused, ErrMismatch, ErrNoTable, ErrNotFound, ErrExists, ErrEnough, errSplit, sql.ErrNoRows, sql.ErrTxDone,
	}, func(target error) bool { return errors.Is(err, target) })
}

func kindOfNumber(e *mysql.MySQLError) kind {
	switch e.Number {
	case 1213, // deadlock; the transaction is rolled back
		1205, 3572, // lock wait timeout; only the statement is rolled back
		1206,       // lock table full
		1020,       // record changed since last read (snapshot isolation)
		1317,       // query interrupted: KILL QUERY
		1969, 3024, // query over max_statement_time, max_execution_time
		1615, 1243, // prepared statement is stale
		1412, // table definition has changed
		3101, // group replication rolled the transaction back
		3058: // user-level lock deadlock
		return kindRetry
	case 1290: // an option prevents it; only one of them is about being read-only
		text := strings.ReplaceAll(strings.ToLower(e.Message), "_", "-")
		if strings.Contains(text, "read-only") {
			return kindReadOnly
		}
		return kindSQL
	case 1105: // anything; among it how a parameter over max_allowed_packet is refused
		if strings.Contains(e.Message, "max_long_data_size") || strings.Contains(e.Message, "max_allowed_packet") {
			return kindRow
		}
		return kindSQL
	case 1792, 1836, 3989: // read-only transaction, read-only mode
		return kindReadOnly
	case 1044, 1045, 1049, 1698, 1820, 1862, // the account or the database is not let in (any more)
		1040, 1203, 1226, // too many connections
		1053, 1077, 1079, 1080, // shutdown
		1042, 1043, 1129, 1152, 1158, 1159, 1160, 1161, 1184, 1189, 1190, 1927, 3169, 4031, // connection killed or lost
		1047,                                           // a Galera node that has left the cluster
		1180,                                           // error during COMMIT: not known whether it is kept
		1021, 1037, 1038, 1041, 1114, 1030, 1026, 1028, // out of disk, memory; table full
		1637, 1461, // too many transactions or prepared statements; closing the connection helps
		2002, 2006, 2013: // the client library's numbers, passed on by proxies
		return kindLost
	case 1048, 1263, 1364, 1138, // NULL, no default
		1022, 1062, 1169, 1557, 1586, 1761, 1762, 1859, // duplicate
		1216, 1217, 1451, 1452, // foreign key
		1264, 1265, 1366, 1367, 1406, 1292, 1411, 1416, 1441, 1525, 1690, 1365, 1426, 3020, // value
		1300, 3854, 1977, 3988, 1267, 1270, 1271, // character set and collation of this value
		1118, 1153, 1162, 1301, // too big
		1526, 1591, 1748, 1369, // no partition; outside a view's CHECK OPTION
		3140, 3141, 3143, 3144, 3146, 3147, 3148, 3149, 3150, 3152, 3156, 3157, 3158, // JSON
		3037, 3516, 3617, 3669, 3726, 3732, // geometry
		3819, 4025, // CHECK
		1644, 1643, // SIGNAL in a trigger
		1242, 1172, 1139: // a subquery or pattern over the row's values
		return kindRow
	}
	switch string(e.SQLState[:2]) {
	case "22", "23", "45": // data exception, integrity constraint, a trigger's SIGNAL
		return kindRow
	case "40":
		return kindRetry
	case "08":
		return kindLost
	}
	return kindSQL
}

// public is the error that a caller gets.
func public(err error) error {
	switch kindOf(err) {
	case kindNone:
		return nil
	case kindRetry:
		return fmt.Errorf("%w: %w", ErrRetry, err)
	case kindLost:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case kindReadOnly:
		return fmt.Errorf("%w: %w", ErrReadOnly, err)
	case kindNotFromDB:
		if marked, ok := errors.AsType[notFromDBError](err); ok {
			return marked.error
		}
		return err
	}
	my, ok := errors.AsType[*mysql.MySQLError](err)
	if !ok {
		return err // ErrPktTooLarge
	}
	e := &SQLError{Code: int(my.Number), Message: my.Message}
	if at, ok := errors.AsType[*statementError](err); ok {
		e.Statement = at.sql
	}
	return e
}

// isNumber reports whether an error is MySQL's and has one of the numbers.
func isNumber(err error, numbers ...uint16) bool {
	my, ok := errors.AsType[*mysql.MySQLError](err)
	return ok && slices.Contains(numbers, my.Number)
}

// Trouble is what is wrong with the database that an error came from, in words; empty when it is nothing that concerns
// other requests.
func Trouble(err error) string {
	switch {
	case isNumber(err, 1021, 1114, 1026), isNumber(err, 1030) && strings.Contains(err.Error(), "error 28"): // ENOSPC
		return "its disk is full"
	case isNumber(err, 1040, 1203, 1226):
		return "it takes no more connections"
	case isNumber(err, 1044, 1045, 1049, 1698):
		return "it does not let the account in"
	case errors.Is(err, ErrReadOnly):
		return "it is read-only"
	case errors.Is(err, context.DeadlineExceeded):
		return "it does not answer"
	case errors.Is(err, ErrUnavailable):
		return "it is not reachable"
	case errors.Is(err, ErrRetry):
		return "others hold rows or tables for too long"
	}
	return ""
}

// statementError says which statement of a rule failed.
type statementError struct {
	sql string
	err error
}

func (e *statementError) Error() string { return e.err.Error() }
func (e *statementError) Unwrap() error { return e.err }

// codeOf is MySQL's number and message for a row that was refused.
func codeOf(err error) (int, string) {
	if my, ok := errors.AsType[*mysql.MySQLError](err); ok {
		return int(my.Number), my.Message
	}
	return 1153, err.Error() // the driver's error about a packet that is too big
}
