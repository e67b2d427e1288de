package rule

import (
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

func (s Severity) String() string { return [...]string{"info", "warning", "error"}[s] }

// MarshalText makes the severity a word in JSON.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Diagnostic is one thing to say about a row of sync_control.
type Diagnostic struct {
	Code     Code     `json:"code"`
	Severity Severity `json:"severity"`
	RuleID   uint64   `json:"rule_id"`
	Column   string   `json:"column,omitempty"`  // sync_sql, sync_field, …
	Section  string   `json:"section,omitempty"` // upside, downside or update_state; "" when the column has no sections
	Line     int      `json:"line,omitempty"`    // 1-based, in the column as it was written; 0 is the column as a whole
	Col      int      `json:"col,omitempty"`     // 1-based, in characters
	Message  string   `json:"message"`           // what is wrong
	Fix      string   `json:"fix,omitempty"`     // what would cure it; may be empty
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

// Worst is the highest severity of the diagnostics; ok is false when there are none.
func Worst(ds []Diagnostic) (worst Severity, ok bool) {
	for _, d := range ds {
		worst = max(worst, d.Severity)
	}
	return worst, len(ds) > 0
}
