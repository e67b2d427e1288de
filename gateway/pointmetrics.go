package gateway

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"syncgate/internal/rowset"
	"syncgate/store"
)

// maxPointSeries bounds the rules of points that have metrics of their own.
const maxPointSeries = 20_000

// pointMetrics collects what the points report. Sums over all points are always there; the series of each point and
// rule are left out for a large fleet.
type pointMetrics struct {
	g                                      *Gateway
	connected, reporting, trouble, rows    *prometheus.Desc
	kept, lag                              *prometheus.Desc
	pointConnected, reportAge, clock, disk *prometheus.Desc
	rules                                  []*prometheus.Desc
}

func newPointMetrics(g *Gateway) *pointMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("syncgate_"+name, help, labels, nil)
	}
	m := &pointMetrics{g: g,
		connected: desc("points_connected", "Points that are connected."),
		reporting: desc("points_reporting", "Points that have reported since the server's start."),
		trouble:   desc("points_in_trouble", "Points with a rule that is broken, stale or failing."),
		rows:      desc("backlog_rows", "Rows that are not acknowledged, of all points, as reported."),
		kept:      desc("points_quarantined_rows", "Rows in the quarantines of all points, as reported."),
		lag:       desc("lag_seconds", "The largest lag of any rule of a point, as reported."),

		pointConnected: desc("point_connected", "1 while the point is connected.", "point"),
		reportAge:      desc("point_report_age_seconds", "Time since the point's last report.", "point"),
		clock:          desc("point_clock_ahead_seconds", "The point's clock before that of the server.", "point"),
		disk: desc("point_disk_free_bytes",
			"Bytes free where the agent keeps its data; -1: not known.", "point"),
	}
	for _, r := range rowset.RuleMetrics {
		m.rules = append(m.rules, desc("point_"+r.Name, r.Help, "point", "table", "direction"))
	}
	return m
}

// Describe implements prometheus.Collector.
func (m *pointMetrics) Describe(out chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, out) }

// Collect implements prometheus.Collector.
func (m *pointMetrics) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	done, _ := m.g.Activity()
	reports, now := m.g.Reports(), m.g.o.Clock()
	var connected, trouble, rows, kept, lag float64
	for point, a := range done {
		if a.Conns > 0 {
			connected++
		}
		if m.g.o.PointMetrics {
			gauge(m.pointConnected, float64(min(a.Conns, 1)), point)
		}
	}
	series := 0
	for i := range reports {
		r := &reports[i]
		bad := 0.0
		for k := range r.Rules {
			x := &r.Rules[k]
			if x.State != rowset.RuleOK {
				bad = 1
			}
			rows, kept, lag = rows+float64(x.BacklogRows), kept+float64(x.Quarantined), max(lag, float64(x.LagMs)/1000)
		}
		trouble += bad
		if series += len(r.Rules); m.g.o.PointMetrics && series <= maxPointSeries {
			m.point(gauge, out, r, now)
		}
	}
	gauge(m.connected, connected)
	gauge(m.reporting, float64(len(reports)))
	gauge(m.trouble, trouble)
	gauge(m.rows, rows)
	gauge(m.kept, kept)
	gauge(m.lag, lag)
}

// point collects the series of one point.
func (m *pointMetrics) point(gauge func(*prometheus.Desc, float64, ...string), out chan<- prometheus.Metric,
	r *store.PointReport, now time.Time) {
	gauge(m.reportAge, now.Sub(r.ReportedAt).Seconds(), r.Point)
	gauge(m.clock, float64(r.ClockAheadMs)/1000, r.Point)
	free := float64(r.DiskFree)
	if r.DiskFree == 0 {
		free = -1
	}
	gauge(m.disk, free, r.Point)
	seen := map[[2]string]bool{} // a series may be there once
	for k := range r.Rules {
		x := &r.Rules[k]
		if name := [2]string{x.Table, x.Direction}; !seen[name] {
			seen[name] = true
			for i, def := range rowset.RuleMetrics {
				kind := prometheus.GaugeValue
				if def.Counter {
					kind = prometheus.CounterValue
				}
				out <- prometheus.MustNewConstMetric(m.rules[i], kind, def.Value(x), r.Point, x.Table, x.Direction)
			}
		}
	}
}
