package business

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"strings"
	"testing"

	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/ruleset"
	"syncgate/store"
)

func TestEveryErrorHasItsNumber(t *testing.T) {
	broken := &ruleset.BrokenError{Problem: rule.Diagnostic{Code: rule.BadSQL, RuleID: 7, Column: "sync_sql",
		Section: "upside", Line: 3, Col: 9, Message: "secret"}}
	absent := &ruleset.BrokenError{Problem: rule.Diagnostic{Code: rule.UnknownTable, RuleID: 7, Column: "sync_table",
		Message: "secret"}}
	for _, tc := range []struct {
		err    error
		status protocol.Status
		says   string
	}{
		{nil, protocol.StatusOK, ""},
		{ErrBusy, protocol.StatusBusy, ""},
		{ErrBlocked, protocol.StatusBusy, "an earlier upload of this table has to be sent again first"},
		{ErrGoingAway, protocol.StatusGoingAway, ""},
		{ErrUnsupported, protocol.StatusOpUnsupported, ""},
		{ErrTooLarge, protocol.StatusTooLarge, ""},
		{ErrInternal, protocol.StatusInternal, ""},
		{ruleset.ErrNoRule, protocol.StatusNoRule, ""},
		{ruleset.ErrDisabled, protocol.StatusRuleDisabled, ""},
		{store.ErrNoTable, protocol.StatusUnknownTable, ""},
		{broken, protocol.StatusRuleBroken, "rule 7 is broken: SG0102 in sync_sql[upside] 3:9; the server's log and " +
			"sync_control_status say more"},
		{absent, protocol.StatusUnknownTable, "rule 7 is broken: SG0103 in sync_table; the server's log and " +
			"sync_control_status say more"},
		{&store.MismatchError{Reason: `column "plate" is not there`}, protocol.StatusRequestMismatch,
			`the request does not fit the rule: column "plate" is not there`},
		{store.ErrReused, protocol.StatusRequestIDReused, ""},
		{store.ErrUnavailable, protocol.StatusDBUnavailable, ""},
		{store.ErrReadOnly, protocol.StatusDBReadOnly, ""},
		{store.ErrRetry, protocol.StatusDeadlock, ""},
		{&store.SQLError{Code: 1064, Message: "secret", Statement: "secret"}, protocol.StatusSQLError,
			"the database refused the rule's statement with error 1064"},
		{&store.RowError{Row: 4, Code: 1062, Reason: "secret"}, protocol.StatusRowRefused,
			"row 4 was refused by the database with error 1062, and the rule is all-or-nothing"},
		{store.ErrFile, protocol.StatusFileError, ""},
		{context.DeadlineExceeded, protocol.StatusDBUnavailable, ""},
		{context.Canceled, protocol.StatusGoingAway, ""},
		{protocol.ErrPayload, protocol.StatusMalformed, "payload is not as documented"},
		{protocol.ErrLimit, protocol.StatusTooLarge, "payload has too many elements"},
		{errors.New("secret"), protocol.StatusInternal, ""},
	} {
		err := tc.err
		if err != nil {
			err = fmt.Errorf("secret: %w", err)
		}
		if got := StatusOf(err); got != tc.status {
			t.Errorf("%v is %v, want %v", tc.err, got, tc.status)
		}
		if err == nil {
			continue
		}
		m := Refusal(&protocol.Message{Op: protocol.OpUpload}, err)
		reply, bad := m.ErrorReply()
		if bad != nil || m.Status != tc.status || m.Op != protocol.OpUpload {
			t.Fatal(m, bad)
		}
		if tc.says == "" {
			tc.says = tc.status.Info().Meaning
		}
		if reply.Message != tc.says || strings.Contains(reply.Message, "secret") {
			t.Errorf("%v is told as %q, want %q", tc.err, reply.Message, tc.says)
		}
	}
}

// The catalogue of protocol explains the numbers that rule owns: each of them, and no other in their hundred.
func TestRuleCodesAreInTheCatalogue(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "../rule/code.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	codes := map[int]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			if number, err := strconv.Atoi(spec.Values[0].(*ast.BasicLit).Value); err == nil {
				codes[number] = true
			}
		}
		return true
	})
	if len(codes) < 40 {
		t.Fatalf("only %d codes were found", len(codes))
	}
	for number := 100; number < 200; number++ {
		if got := protocol.Status(number).Known(); got != codes[number] {
			t.Errorf("SG%04d: in the catalogue %v, in rule %v", number, got, codes[number])
		}
		if a, b := protocol.Status(number).String(), rule.Code(number).String(); a != b {
			t.Errorf("%s and %s are one number", a, b)
		}
	}
}
