package gateway

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"syncgate/internal/rowset"
	"syncgate/store"
)

// The metrics pass Prometheus' own check, also with what points report, which may be anything.
func TestMetrics(t *testing.T) {
	for _, each := range []bool{true, false} {
		w := newWorld(t).serve(func(o *Options) { o.PointMetrics = each })
		rule := rowset.RuleReport{Table: "hits\"\n", Direction: "upload", State: rowset.RuleFailing, LagMs: 1500,
			BacklogRows: 7, Moved: 9}
		w.reports.add(store.PointReport{Point: "p", ReportedAt: time.Now(),
			Report: rowset.Report{Rules: []rowset.RuleReport{rule, rule, {Table: "u", State: rowset.RuleOK}}}})
		problems, err := testutil.GatherAndLint(w.series)
		if err != nil || len(problems) > 0 {
			t.Error(problems, err)
		}
		const sums = "# HELP syncgate_backlog_rows Rows that are not acknowledged, of all points, as reported.\n" +
			"# TYPE syncgate_backlog_rows gauge\nsyncgate_backlog_rows 14\n# HELP syncgate_database_up 1 while the " +
			"database answers SELECT 1 within three seconds.\n# TYPE syncgate_database_up " +
			"gauge\nsyncgate_database_up 1\n"
		if err := testutil.GatherAndCompare(w.series, strings.NewReader(sums), "syncgate_backlog_rows",
			"syncgate_database_up"); err != nil {
			t.Error(err)
		}
		n, err := testutil.GatherAndCount(w.series, "syncgate_point_rule_lag_seconds")
		if want := map[bool]int{true: 2, false: 0}[each]; n != want || err != nil {
			t.Errorf("%d series of rules instead of %d, %v", n, want, err)
		}
	}
}

// The alert rules and the dashboard name metrics that there are, and the alert rules pass their tests.
func TestDeployedMetrics(t *testing.T) {
	w := newWorld(t).serve(func(o *Options) { o.PointMetrics = true })
	descs := make(chan *prometheus.Desc, 1000)
	for _, c := range w.metrics.all {
		c.Describe(descs)
	}
	w.reports.add(store.PointReport{Point: "p", Report: rowset.Report{Rules: []rowset.RuleReport{{Table: "t"}}}})
	w.activity.connected("p", "here")
	newPointMetrics(w.Gateway).Describe(descs)
	close(descs)
	var known []string
	for d := range descs {
		known = append(known, regexp.MustCompile(`fqName: "(\w+)"`).FindStringSubmatch(d.String())[1])
	}
	for _, name := range []string{"prometheus-alerts.yml", "prometheus-alerts-test.yml", "grafana-dashboard.json"} {
		text, err := os.ReadFile(filepath.Join("..", "deploy", name))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, ".json") && !json.Valid(text) {
			t.Errorf("%s is not JSON", name)
		}
		for _, used := range regexp.MustCompile(`syncgate_\w+`).FindAllString(string(text), -1) {
			if !slices.Contains(known, strings.TrimSuffix(used, "_bucket")) {
				t.Errorf("%s uses %s, which there is not", name, used)
			}
		}
	}
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is not installed (Debian's package prometheus has it), so that the tests of the alert rules " +
			"are not run")
	}
	cmd := exec.Command(promtool, "test", "rules", "prometheus-alerts-test.yml")
	cmd.Dir = filepath.Join("..", "deploy")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
