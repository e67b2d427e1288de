package store

import (
	"context"
	"errors"

	"syncgate/rule"
)

// CheckPlan has the database PREPARE every statement of a plan and says what it refuses, with the place in sync_sql.
// t may be nil. An error means that the database could not be asked.
func (s *Store) CheckPlan(ctx context.Context, p *rule.Plan, t *rule.Table) ([]rule.Diagnostic, error) {
	var ds []rule.Diagnostic
	for _, phase := range [][]rule.Statement{p.Upside, p.Downside, p.UpdateState} {
		for i := range phase {
			for st := &phase[i]; st != nil; st = st.Start {
				err := s.Check(ctx, st)
				if refused := (*SQLError)(nil); errors.As(err, &refused) {
					ds = append(ds, rule.Explain(p, st, t, uint16(refused.Code), refused.Message))
				} else if err != nil {
					return ds, err
				}
			}
		}
	}
	return ds, nil
}
