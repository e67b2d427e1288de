package gateway

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"syncgate/internal/rowset"
	"syncgate/store"
)

// The metrics pass Prometheus' own check, also with what points report, which may be anything.
func TestMetrics(t *testing.T) {
	for _, each := range []bool{true, false} {
		w := newWorld(t).serve(func(o *Options) { o.PointMetrics = each })
		rule := rowset.RuleReport{Table: "hits\"\n", Direction: "upload", State: rowset.RuleFailing, LagMs: 1500, BacklogRows: 7, Moved: 9}
		w.reports.add(store.PointReport{Point: "p", ReportedAt: time.Now(),
			Report: rowset.Report{Rules: []rowset.RuleReport{rule, rule, {Table: "u", State: rowset.RuleOK}}}})
		problems, err := testutil.GatherAndLint(w.series)
		if err != nil || len(problems) > 0 {
			t.Error(problems, err)
		}
		const sums = "# HELP syncgate_backlog_rows Rows that are not acknowledged, of all points, as reported.\n" +
			"# TYPE syncgate_backlog_rows gauge\nsyncgate_backlog_rows 14\n# HELP syncgate_database_up 1 while the database " +
			"answers SELECT 1 within three seconds.\n# TYPE syncgate_database_up gauge\nsyncgate_database_up 1\n"
		if err := testutil.GatherAndCompare(w.series, strings.NewReader(sums), "syncgate_backlog_rows", "syncgate_database_up"); err != nil {
			t.Error(err)
		}
		n, err := testutil.GatherAndCount(w.series, "syncgate_point_rule_lag_seconds")
		if want := map[bool]int{true: 2, false: 0}[each]; n != want || err != nil {
			t.Errorf("%d series of rules instead of %d, %v", n, want, err)
		}
	}
}

