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
)

func TestEveryErrorHasItsNumber(t *testing.T) {
	broken := &BrokenError{Problem: rule.Diagnostic{Code: rule.BadSQL, RuleID: 7, Column: "sync_sql", Section: "upside", Line: 3, Col: 9, Message: "secret"}}
	absent := &BrokenError{Problem: rule.Diagnostic{Code: rule.UnknownTable, RuleID: 7, Column: "sync_table", Message: "secret"}}
	for _, tc := range []struct {
		err    error
		status protocol.Status
		says   string
	}{
		{nil, protocol.StatusOK, ""},
		{ErrBusy, protocol.StatusBusy, ""},
		{ErrHeld, protocol.StatusBusy, "an earlier upload of this table has to be sent again first"},
		{ErrGoingAway, protocol.StatusGoingAway, ""},
		{ErrUnsupported, protocol.StatusOpUnsupported, ""},
		{ErrTooLarge, protocol.StatusTooLarge, ""},
		{ErrInternal, protocol.StatusInternal, ""},
		{ErrNoRule, protocol.StatusNoRule, ""},
		{ErrRuleDisabled, protocol.StatusRuleDisabled, ""},
		{ErrNoTable, protocol.StatusUnknownTable, ""},
		{broken, protocol.StatusRuleBroken, "rule 7 is broken: SG0102 in sync_sql[upside] 3:9; the server's log and sync_control_status say more"},
		{absent, protocol.StatusUnknownTable, "rule 7 is broken: SG0103 in sync_table; the server's log and sync_control_status say more"},
		{&MismatchError{Column: "plate", Reason: "is not there"}, protocol.StatusRequestMismatch, `the request does not fit the rule: column "plate" is not there`},
		{ErrReused, protocol.StatusRequestIDReused, ""},
		{ErrUnavailable, protocol.StatusDBUnavailable, ""},
		{ErrReadOnly, protocol.StatusDBReadOnly, ""},
		{ErrDeadlock, protocol.StatusDeadlock, ""},
		{&SQLError{Number: 1064, Text: "secret"}, protocol.StatusSQLError, "the database refused the rule's statement with error 1064"},
		{&RowError{Row: 4, Number: 1062, Text: "secret"}, protocol.StatusRowRefused, "row 4 was refused by the database with error 1062, and the rule is all-or-nothing"},
		{ErrFile, protocol.StatusFileError, ""},
		{context.DeadlineExceeded, protocol.StatusDBUnavailable, ""},
		{context.Canceled, protocol.StatusGoingAway, ""},
		{protocol.ErrPayload, protocol.StatusMalformed, ""},
		{protocol.ErrLimit, protocol.StatusTooLarge, ""},
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

func TestFit(t *testing.T) {
	fields := []string{"id", "Url"}
	for _, tc := range []struct {
		columns []string
		values  []any
		column  string // of the mismatch; "-" is one without a column, "" is none
	}{
		{[]string{"id", "url"}, []any{1, 2}, ""},
		{[]string{"URL", "ID"}, []any{1, 2}, ""},
		{[]string{"", ""}, []any{1, 2, 3, 4}, ""},
		{nil, nil, ""},
		{[]string{"id", "url"}, nil, ""},
		{[]string{"id"}, []any{1}, "Url"},
		{[]string{"id", "url", "id"}, []any{1, 2, 3}, "id"},
		{[]string{"id", "plate"}, []any{1, 2}, "plate"},
		{[]string{""}, []any{1, 2}, "-"},
		{[]string{"", "", ""}, []any{1, 2, 3}, "-"},
	} {
		_, err := fit(protocol.Rows{Columns: tc.columns, Values: tc.values}, fields)
		var mismatch *MismatchError
		switch {
		case !errors.As(err, &mismatch):
			if tc.column != "" {
				t.Errorf("%q fit", tc.columns)
			}
		case tc.column == "":
			t.Errorf("%q: %v", tc.columns, err)
		case tc.column != "-" && mismatch.Column != tc.column:
			t.Errorf("%q: the column is %q, want %q", tc.columns, mismatch.Column, tc.column)
		}
	}
}
