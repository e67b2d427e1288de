package store

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

// PointReport is what a point last reported, at the centre; at a point it is the point's own report.
type PointReport struct {
	Point        string    `json:"point"`
	ReportedAt   time.Time `json:"reported_at"`
	ClockAheadMs int64     `json:"clock_ahead_ms"`
	rowset.Report
}

// longAgo is how long before a report something may have happened. What is longer ago has no time.
const longAgo = 40 * 365 * 24 * time.Hour

// SavePointReports replaces what the points have reported before. The reports are of different points.
func (s *Store) SavePointReports(ctx context.Context, all []PointReport) error {
	var agents, rules, points []any
	now := time.Now()
	ago := func(r *PointReport, ms uint64) any {
		if ms == 0 || ms > uint64(longAgo.Milliseconds()) {
			return nil
		}
		return stamp(r.ReportedAt.Add(-time.Duration(ms) * time.Millisecond))
	}
	name := func(text string) string { return clip(text, 60) }
	for i := range all {
		r := &all[i]
		at := stamp(cmp.Or(r.ReportedAt, now))
		points = append(points, r.Point)
		agents = append(agents, r.Point, clip(r.Software, 250), clip(r.Database, 250), r.ClockAheadMs,
			orNull(r.DiskFree), orNull(r.Memory), ago(r, r.UpMs), at)
		for _, x := range r.Rules {
			rules = append(rules, r.Point, clip(x.Table, 128), clip(x.Direction, 12), orNull(x.Here), orNull(x.RuleID),
				clip(x.State, 12), orNull(clip(x.Code, 12)), orNull(name(x.Column)), orNull(x.Line),
				orNull(clip(x.Text, textMax)), ago(r, x.FailingMs), ago(r, x.SucceededMs), x.LagMs, x.BacklogRows,
				x.BacklogBytes, x.Quarantined, x.Moved, x.Failures, at)
		}
	}
	return s.inTx(ctx, func(tx *Tx) error {
		err := tx.many(ctx, "DELETE FROM sync_point_status WHERE point_no IN (", "?", ")", points, 1)
		if err == nil {
			err = tx.many(ctx, `REPLACE INTO sync_point_agent (point_no, software, database_version, clock_ahead_ms,
				disk_free, memory, started_at, reported_at) VALUES `, marks(8), "", agents, 8)
		}
		if err == nil {
			err = tx.many(ctx, `REPLACE INTO sync_point_status (point_no, sync_table, sync_type, rule_id,
				client_rule_id, state, error_code, error_column, error_line, error_text, failing_since, last_success_at,
				lag_ms, backlog_rows, backlog_bytes, quarantined, rows_moved, failures,
				reported_at) VALUES `, marks(19), "", rules, 19)
		}
		return err
	})
}

func orNull[T comparable](v T) any {
	var zero T
	if v == zero {
		return nil
	}
	return v
}

// many runs a statement for values of which each tuple takes width, with few executions.
func (t *Tx) many(ctx context.Context, head, tuple, tail string, values []any, width int) error {
	for rest := values; len(rest) > 0; {
		n := chunkSize(len(rest) / width)
		insert := rule.InsertParts{Head: head, Tuple: tuple, Tail: tail}.Rows(n)
		if _, err := t.Exec(ctx, insert, rest[:n*width]...); err != nil {
			return err
		}
		rest = rest[n*width:]
	}
	return nil
}

// PointReports are the last reports of all points, or of one, in the order of their names. A point without one reports
// nothing: its agent is older, or has not connected.
func (s *Store) PointReports(ctx context.Context, point string) ([]PointReport, error) {
	const where = " WHERE point_no = ? OR ? = '' ORDER BY point_no"
	all, err := readAll(ctx, s, `SELECT point_no, software, database_version, clock_ahead_ms, COALESCE(disk_free, 0),
		COALESCE(memory, 0), COALESCE(GREATEST(1, TIMESTAMPDIFF(MICROSECOND, started_at, reported_at) DIV 1000), 0),
		UNIX_TIMESTAMP(reported_at) FROM sync_point_agent`+where, func(r *PointReport) []any {
		return []any{&r.Point, &r.Software, &r.Database, &r.ClockAheadMs, &r.DiskFree, &r.Memory, &r.UpMs,
			(*unixTime)(&r.ReportedAt)}
	}, point, point)
	if err != nil {
		return nil, err
	}
	of := map[string]*PointReport{}
	for i := range all {
		of[all[i].Point] = &all[i]
	}
	const ago = "COALESCE(GREATEST(1, TIMESTAMPDIFF(MICROSECOND, last_success_at, NOW(3)) DIV 1000), 0)"
	err = s.each(ctx, `SELECT point_no, sync_table, sync_type, COALESCE(rule_id, 0), COALESCE(client_rule_id, 0), state,
		COALESCE(error_code, ''), COALESCE(error_column, ''), COALESCE(error_line, 0), COALESCE(error_text, ''),
		`+ago+`, `+strings.Replace(ago, "last_success_at", "failing_since", 1)+`, lag_ms,
		backlog_rows, backlog_bytes, quarantined, rows_moved, failures
		FROM sync_point_status`+where+", sync_table, sync_type", func(scan scanner) error {
		var name string
		var x rowset.RuleReport
		err := scan(&name, &x.Table, &x.Direction, &x.Here, &x.RuleID, &x.State, &x.Code, &x.Column, &x.Line, &x.Text,
			&x.SucceededMs, &x.FailingMs, &x.LagMs, &x.BacklogRows, &x.BacklogBytes, &x.Quarantined, &x.Moved,
			&x.Failures)
		if r := of[name]; r != nil {
			r.Rules = append(r.Rules, x)
		}
		return err
	}, point, point)
	return all, public(err)
}

// backlogMost bounds the rows that Backlog counts, backlogSample those whose size it takes, and backlogTime, in
// seconds, the time of each of its two queries.
const (
	backlogMost   = 100_000
	backlogSample = 100
	backlogTime   = 2
)

// Backlog counts the rows that Read would give for a state, up to a bound, and estimates their bytes from the first of
// them. counted is false for a rule with SQL of its own, which only reading can count.
func (s *Store) Backlog(ctx context.Context, p *rule.Plan, e rule.Env) (rows, bytes uint64, counted bool, err error) {
	if p.Form != rule.Generated || !p.Paged() {
		return 0, 0, false, nil
	}
	st := &p.Upside[0]
	if _, loading := itemOf(e.State, rule.LoadItem(0)); p.Load != nil && (loading || len(e.State) == 0) {
		st = p.Load
	}
	if st.Start != nil && len(e.State) == 0 {
		st = st.Start
	}
	var mean float64
	err = s.withConn(ctx, func(c *conn) error {
		r := &reader{ctx: ctx, c: c, s: s, p: p, env: e}
		if err := r.boundByNow(); err != nil {
			return err
		}
		ask := func(what, fields string, limit int) (answer any, err error) {
			r.env.Limit = limit
			if err := r.bind(st, &r.env); err != nil {
				return nil, err
			}
			_, from, _ := strings.Cut(st.SQL, "\nfrom ") // no value stands before it
			query := "SELECT " + what + " FROM (SELECT " + fields + " FROM " + from + ") sync_backlog"
			if s.mariadb {
				query = fmt.Sprintf("SET STATEMENT max_statement_time = %d FOR %s", backlogTime, query)
			}
			err = c.scan(ctx, query, func(v []any) error { answer = v[0]; return nil })
			return answer, err
		}
		count, err := ask("COUNT(*)", "1", backlogMost)
		if rows = asUint(count); rows == 0 || err != nil {
			return err
		}
		head, _, _ := strings.Cut(st.SQL, "\nfrom ")
		average, err := ask("AVG(LENGTH(CONCAT_WS('', "+rule.QuoteAll(p.Fields)+")))",
			strings.TrimPrefix(head, "select "), backlogSample)
		if text, ok := average.(string); ok && err == nil {
			mean, err = strconv.ParseFloat(text, 64)
		}
		return err
	})
	return rows, uint64(mean * float64(rows)), true, public(err)
}

// QuarantinedByTable counts the rows of sync_quarantine by table, up to 100,000 in all.
func (s *Store) QuarantinedByTable(ctx context.Context) (map[string]uint64, error) {
	all := map[string]uint64{}
	err := s.each(ctx, `SELECT sync_table, COUNT(*) FROM (SELECT sync_table FROM sync_quarantine LIMIT 100000) q
		GROUP BY sync_table`, func(scan scanner) error {
		var table string
		var n uint64
		err := scan(&table, &n)
		all[table] = n
		return err
	})
	return all, public(err)
}
