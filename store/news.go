package store

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"syncgate/rule"
)

// NewsOf names what News looks at for a plan: plans with the same name have the same news. "": the store cannot tell
// when the plan has new rows.
func NewsOf(p *rule.Plan) string {
	glance, _ := p.Glance()
	switch {
	case p.ByNumber():
		return "number " + p.Recorded.Sequence
	case p.Mark != nil:
		return fmt.Sprintf("time %v %s", p.Lag, p.Mark.Scan.SQL)
	}
	return glance
}

// News is how far the rows that a plan can read have come. It is another when there are rows to read that were not
// there before.
type News struct {
	Mark   string
	number uint64 // of the last change, where changes have numbers
}

// originsAtOnce bounds the changes of which the origin is looked at.
const originsAtOnce = 1000

// News looks whether a plan, for which NewsOf has a name, has new rows since the last look. It gives changes their
// numbers. from is the point where all that is new comes from; "": from several, or it is not known.
func (s *Store) News(ctx context.Context, p *rule.Plan, last News) (now News, from string, err error) {
	err = s.retry(ctx, func(c *conn) error {
		switch {
		case p.ByNumber():
			at, err := sequence(ctx, c, p)
			now = News{fmt.Sprint(at.upTo, " ", at.completeFrom), at.upTo}
			before := last.number
			if err == nil && last.Mark != "" && at.upTo > before && at.upTo <= before+originsAtOnce {
				from, err = originSince(ctx, c, p, before)
			}
			return err
		case p.Mark != nil:
			r, err := s.reachOf(ctx, c, p, false)
			hottest := uint64(0)
			for _, n := range r.hot {
				hottest = max(hottest, n)
			}
			now.Mark = fmt.Sprint(r.fresh, " ", hottest)
			return err
		}
		expression, _ := p.Glance()
		marks, err := c.glance(ctx, []string{expression})
		now.Mark = "last " + strings.Join(marks, "")
		return err
	})
	return now, from, err
}

// originSince is the one origin of the changes after a number; "" when there are several, or it is this database.
func originSince(ctx context.Context, c *conn, p *rule.Plan, number uint64) (origin string, err error) {
	q := "SELECT MIN(COALESCE(sync_origin, '')), MAX(COALESCE(sync_origin, '')) FROM " + p.Recorded.Name +
		" WHERE sync_seq > ?"
	err = c.ask(ctx, q, func(v []any) error {
		if v[0] == v[1] {
			origin, _ = v[0].(string)
		}
		return nil
	}, number)
	return origin, err
}

// Glance evaluates expressions of rule.Plan.Glance in one query.
func (s *Store) Glance(ctx context.Context, expressions []string) (values []string, err error) {
	err = s.retry(ctx, func(c *conn) (err error) {
		values = values[:0]
		for part := range slices.Chunk(expressions, glanceAtOnce) {
			more, err := c.glance(ctx, part)
			if err != nil {
				return err
			}
			values = append(values, more...)
		}
		return err
	})
	return values, err
}

const glanceAtOnce = 256 // expressions of one query; the database takes some thousand tables

func (c *conn) glance(ctx context.Context, expressions []string) (values []string, err error) {
	err = c.ask(ctx, "SELECT "+strings.Join(expressions, ", "), func(v []any) error {
		for _, x := range v {
			values = append(values, fmt.Sprint(x))
		}
		return nil
	})
	return values, err
}
