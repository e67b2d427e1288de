package business

import (
	"context"
	"errors"
	"fmt"
	"time"

	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/ruleset"
	"syncgate/store"
)

// Errors of this package. StatusOf gives them and the errors of ruleset and store their numbers.
var (
	ErrBusy        = errors.New("too many requests wait")
	ErrSlow        = errors.New("the client reads too slowly")
	ErrBlocked     = errors.New("an earlier upload of this table has to be sent again first")
	ErrGoingAway   = errors.New("the server is stopping")
	ErrUnsupported = errors.New("this server does not do that")
	ErrTooLarge    = errors.New("too many rows in one request, or a row too large for a frame")
	ErrInternal    = errors.New("the server failed; its log has the cause")

	errReplyTooLarge = fmt.Errorf("%w: a reply of the v1 wire over the point's share", ErrTooLarge)
)

// StatusOf is the number of err. It is the only map from errors to numbers. An error that it does not list has the
// number that protocol gives it, which is INTERNAL for unknown errors.
func StatusOf(err error) protocol.Status {
	var broken *ruleset.BrokenError
	if errors.As(err, &broken) {
		if broken.Problem.Code == rule.UnknownTable {
			return protocol.StatusUnknownTable
		}
		return protocol.StatusRuleBroken
	}
	for _, known := range [...]struct {
		is     func(error) bool
		status protocol.Status
	}{
		{is(ErrBusy), protocol.StatusBusy},
		{is(ErrSlow), protocol.StatusBusy},
		{is(ErrBlocked), protocol.StatusBusy},
		{is(ErrGoingAway), protocol.StatusGoingAway},
		{is(ErrUnsupported), protocol.StatusOpUnsupported},
		{is(ErrTooLarge), protocol.StatusTooLarge},
		{is(ErrInternal), protocol.StatusInternal},
		{is(ruleset.ErrNoRule), protocol.StatusNoRule},
		{is(ruleset.ErrDisabled), protocol.StatusRuleDisabled},
		{is(store.ErrNoTable), protocol.StatusUnknownTable},
		{is(store.ErrMismatch), protocol.StatusRequestMismatch},
		{is(store.ErrReused), protocol.StatusRequestIDReused},
		{is(store.ErrUnavailable), protocol.StatusDBUnavailable},
		{is(store.ErrReadOnly), protocol.StatusDBReadOnly},
		{is(store.ErrRetry), protocol.StatusDeadlock},
		{as[*store.RowError], protocol.StatusRowRefused},
		{as[*store.SQLError], protocol.StatusSQLError},
		{is(store.ErrFile), protocol.StatusFileError},
		{is(store.ErrQuarantineFull), protocol.StatusQuarantineFull},
		{is(context.DeadlineExceeded), protocol.StatusDBUnavailable},
		{is(context.Canceled), protocol.StatusGoingAway},
	} {
		if known.is(err) {
			return known.status
		}
	}
	return protocol.StatusOf(err)
}

func is(target error) func(error) bool {
	return func(err error) bool { return errors.Is(err, target) }
}

func as[T error](err error) bool {
	var t T
	return errors.As(err, &t)
}

// Refusal is the reply to m for err: its number, a text for a person, and when to try again. The text never holds SQL,
// values, or the database's own text.
func Refusal(m *protocol.Message, err error) *protocol.Message {
	s := StatusOf(err)
	reply := &protocol.ErrorReply{Message: explain(s, err), RetryAfterMs: uint32(retryAfter(s) / time.Millisecond)}
	if reused := (*store.ReusedError)(nil); errors.As(err, &reused) {
		// An unreadable state is as good as none: the client begins a generation.
		reply.Reached, _ = reachedOf(reused.Reached)
	}
	return m.Reply(s, reply)
}

func explain(s protocol.Status, err error) string {
	var (
		mismatch *store.MismatchError
		broken   *ruleset.BrokenError
		row      *store.RowError
		sql      *store.SQLError
	)
	switch {
	case errors.As(err, &mismatch):
		return "the request does not fit the rule: " + mismatch.Reason
	case errors.As(err, &broken):
		p := broken.Problem
		where := p.Column
		if p.Section != "" {
			where += "[" + p.Section + "]"
		}
		if p.Line > 0 {
			where += fmt.Sprintf(" %d:%d", p.Line, p.Col)
		}
		return fmt.Sprintf("rule %d is broken: %s in %s; the server's log and sync_control_status say more",
			p.RuleID, p.Code, where)
	case errors.As(err, &row):
		return fmt.Sprintf("row %d was refused by the database with error %d, and the rule is all-or-nothing",
			row.Row, row.Code)
	case errors.As(err, &sql):
		return fmt.Sprintf("the database refused the rule's statement with error %d", sql.Code)
	case errors.Is(err, ErrBlocked):
		return ErrBlocked.Error()
	case errors.Is(err, errReplyTooLarge):
		return "the reply takes more than max_buffered allows one point; page the rows"
	case errors.Is(err, protocol.ErrPayload), errors.Is(err, protocol.ErrLimit):
		return protocol.Detail(err) // names the byte
	}
	return s.Info().Meaning
}

// retryAfter is the pause that a client should make; 0 is no hint.
func retryAfter(s protocol.Status) time.Duration {
	switch s {
	case protocol.StatusBusy:
		return 500 * time.Millisecond
	case protocol.StatusDeadlock:
		return 100 * time.Millisecond
	case protocol.StatusDBUnavailable, protocol.StatusDBReadOnly, protocol.StatusInternal:
		return 2 * time.Second
	case protocol.StatusGoingAway:
		return time.Second
	case protocol.StatusQuarantineFull:
		return 30 * time.Second
	}
	return 0
}

// rowReason explains why the database refused a row. The database's own text stays at the centre, because it quotes
// values and names of its schema.
func rowReason(code int) string {
	what := "the row was refused"
	switch code {
	case 1062, 1022, 1169, 1586, 1761, 1762:
		what = "a row with this key exists"
	case 1216, 1452:
		what = "the row it refers to is missing"
	case 1217, 1451:
		what = "other rows refer to it"
	case 1048, 1263, 1364:
		what = "a column that needs a value has none"
	case 1406:
		what = "a value is too long for its column"
	case 1264, 1690:
		what = "a number is out of its column's range"
	case 1265, 1292, 1366, 1367, 1411:
		what = "a value does not fit its column's type"
	case 3819, 4025:
		what = "a check constraint refuses it"
	case 1644:
		what = "a trigger refuses it"
	}
	return fmt.Sprintf("%s (error %d)", what, code)
}
