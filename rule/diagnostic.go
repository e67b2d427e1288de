package rule

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Severity says what a Diagnostic does to its rule.
type Severity uint8

// Error keeps the rule from running; Warning and Info do not.
const (
	Info Severity = iota
	Warning
	Error
)

func (s Severity) String() string {
	switch s {
	case Error:
		return "error"
	case Warning:
		return "warning"
	default:
		return "info"
	}
}

// Diagnostic is one thing to say about a row of sync_control.
type Diagnostic struct {
	Code     Code
	Severity Severity
	RuleID   uint64
	Column   string // sync_sql, sync_field, …
	Section  string // upside, downside or update_state; "" when the column has no sections
	Line     int    // 1-based line in the column as it was written; 0 is the column as a whole
	Col      int    // 1-based, in characters
	Message  string // what is wrong
	Fix      string // what would cure it; may be empty
}

// String is the one line that every tool prints:
//
//	sync_control id=12 sync_sql[upside] 3:17 error SG0104 unknown column plat; did you mean plate?
func (d Diagnostic) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "sync_control id=%d", d.RuleID)
	if d.Column != "" {
		b.WriteString(" " + d.Column)
	}
	if d.Section != "" {
		b.WriteString("[" + d.Section + "]")
	}
	if d.Line > 0 {
		fmt.Fprintf(&b, " %d:%d", d.Line, d.Col)
	}
	fmt.Fprintf(&b, " %s %s %s", d.Severity, d.Code, d.Message)
	if d.Fix != "" {
		b.WriteString("; " + d.Fix)
	}
	return b.String()
}

// MarshalJSON writes the code and the severity as words.
func (d Diagnostic) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Code     string `json:"code"`
		Severity string `json:"severity"`
		RuleID   uint64 `json:"rule_id"`
		Column   string `json:"column,omitempty"`
		Section  string `json:"section,omitempty"`
		Line     int    `json:"line,omitempty"`
		Col      int    `json:"col,omitempty"`
		Message  string `json:"message"`
		Fix      string `json:"fix,omitempty"`
	}{d.Code.String(), d.Severity.String(), d.RuleID, d.Column, d.Section, d.Line, d.Col, d.Message, d.Fix})
}

// Worst is the highest severity of the diagnostics; ok is false when there are none.
func Worst(ds []Diagnostic) (worst Severity, ok bool) {
	for _, d := range ds {
		worst = max(worst, d.Severity)
	}
	return worst, len(ds) > 0
}
