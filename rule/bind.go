package rule

import (
	"errors"
	"fmt"
	"time"

	"syncgate/internal/rowset"
)

// DefaultLimit is the rows of a page when Env.Limit is not positive.
const DefaultLimit = 1000

// ErrRowShape means that a row in hand has not as many values as the plan has fields.
var ErrRowShape = errors.New("rule: the row does not have the rule's fields")

// Env is everything a statement may be bound to besides the row in hand.
//
// The three times are written as text in their own location, because that is how MySQL compares a DATETIME: give them
// in the location of the session's time_zone.
type Env struct {
	State             []rowset.StateItem
	Since, Until, Now time.Time
	Point             string
	Origin            string // the side that is read for; its own changes are not sent back to it
	Limit             int    // rows a page; DefaultLimit when not positive
}

// Bind appends the statement's values to dst in the order of its ? marks. row holds the values of Plan.Fields and may
// be nil when PerRow is false.
func (s *Statement) Bind(dst []any, e *Env, row []any) ([]any, error) {
	for i := range s.Args {
		a := &s.Args[i]
		v := a.Value
		switch a.Source {
		case Field:
			if a.Field >= len(row) {
				return dst, fmt.Errorf("%w: %d values, %s is number %d", ErrRowShape, len(row), a.Name, a.Field+1)
			}
			v = row[a.Field]
		case State:
			v = e.state(a)
		case Since:
			v = DateTime(e.Since)
		case Until:
			v = DateTime(e.Until)
		case Now:
			v = DateTime(e.Now)
		case PointNo:
			v = e.Point
		case Origin:
			v = e.Origin
		case Limit:
			if v = int64(e.Limit); e.Limit <= 0 {
				v = int64(DefaultLimit)
			}
		}
		dst = append(dst, v)
	}
	return dst, nil
}

// state is the carried value. A NULL, as max() of an empty table gives, is nothing carried: compared to, it would match
// no row ever.
func (e *Env) state(a *Arg) any {
	for i, item := range e.State {
		if item.Value != nil && (a.Name == "" && i == a.Field || a.Name != "" && sameName(item.Name, a.Name)) {
			return item.Value
		}
	}
	return a.Value
}

// DateTime is t as MySQL writes a DATETIME(6) in t's own location, without the zeros at the end of the fraction.
func DateTime(t time.Time) string { return t.Format("2006-01-02 15:04:05.999999") }
