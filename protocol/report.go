package protocol

import (
	"math"

	"syncgate/internal/rowset"
)

// MaxReported bounds the rules of one report.
const MaxReported = 500

// ReportRequest says how the point and its rules are.
type ReportRequest struct{ rowset.Report }

func (r *ReportRequest) fields(c *coder) {
	optional(c, 1, &r.Software, c.note)
	optional(c, 2, &r.Database, c.note)
	amount(c, 3, &r.ClockMs)
	amount(c, 4, &r.UpMs)
	amount(c, 5, &r.DiskFree)
	amount(c, 6, &r.Memory)
	if c.has(len(r.Rules) > 0) {
		list(c, 7, &r.Rules, MaxReported, 1, func(c *coder, x *rowset.RuleReport) { c.mapOf((*ruleReport)(x)) })
	}
}

type ruleReport rowset.RuleReport

func (r *ruleReport) fields(c *coder) {
	name := func(key uint64, v *string) { c.text(key, v, maxName) }
	name(1, &r.Table)
	name(2, &r.Direction)
	amount(c, 3, &r.RuleID)
	name(4, &r.State)
	optional(c, 5, &r.Code, name)
	optional(c, 6, &r.Column, name)
	if c.has(r.Line != 0) {
		number(c, 7, &r.Line, math.MaxUint32)
	}
	optional(c, 8, &r.Text, c.note)
	for i, v := range []*uint64{&r.SucceededMs, &r.FailingMs, &r.LagMs, &r.BacklogRows, &r.BacklogBytes, &r.Quarantined,
		&r.Moved, &r.Failures} {
		amount(c, 9+uint64(i), v)
	}
	c.check(r.Table != "" && r.State != "", "no table or no state")
}

// amount is a number that is left out when it is 0.
func amount[T uint64 | int64](c *coder, key uint64, v *T) {
	if c.has(*v != 0) {
		number(c, key, v, math.MaxInt64)
	}
}

// optional is a text that is left out when it is empty.
func optional(c *coder, key uint64, v *string, field func(uint64, *string)) {
	if c.has(*v != "") {
		field(key, v)
	}
}

// ReportReply acknowledges a report.
type ReportReply struct {
	EveryMs uint32 // the pause that the centre wants until the next report; 0: the client's choice
}

func (r *ReportReply) fields(c *coder) {
	if c.has(r.EveryMs != 0) {
		number(c, 1, &r.EveryMs, math.MaxUint32)
	}
}
