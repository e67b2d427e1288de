package gateway

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/rs/zerolog"

	"syncgate/protocol"
	"syncgate/reactor"
	"syncgate/store"
)

// metrics are the gateway's figures. They implement reactor.Observer, so that the reactor's are among them.
type metrics struct {
	requests    *prometheus.CounterVec   // op, status
	latency     *prometheus.HistogramVec // op
	established *prometheus.CounterVec   // wire
	rejected    *prometheus.CounterVec   // wire
	opened      prometheus.Counter
	closed      *prometheus.CounterVec // reason
	refused     *prometheus.CounterVec // reason
	paused      *prometheus.CounterVec // reason
	frames      prometheus.Counter
	in, out     prometheus.Counter // bytes
	lag         prometheus.Histogram
	probes      prometheus.Histogram
	up          prometheus.Gauge
	trouble     *trouble
	stored      map[*store.Metric]*prometheus.CounterVec
	failures    map[*store.Metric]zerolog.Logger // a line a minute of each

	all []prometheus.Collector
}

var _ reactor.Observer = (*metrics)(nil)

func newMetrics(g *Gateway) *metrics {
	m := &metrics{trouble: &g.trouble, stored: map[*store.Metric]*prometheus.CounterVec{},
		failures: map[*store.Metric]zerolog.Logger{}}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "syncgate", Name: name, Help: help}, labels)
		m.all = append(m.all, v)
		return v
	}
	counter := func(name, help string) prometheus.Counter { return counters(name, help).WithLabelValues() }
	histograms := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "syncgate", Name: name, Help: help, Buckets: buckets}, labels)
		m.all = append(m.all, v)
		return v
	}
	gauge := func(name, help string, labels prometheus.Labels, value func() int) {
		m.all = append(m.all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "syncgate", Name: name, Help: help, ConstLabels: labels,
		}, func() float64 { return float64(value()) }))
	}
	m.requests = counters("requests_total", "Requests answered, by operation and status.", "op", "status")
	m.established = counters("sessions_total", "Sessions established, by wire.", "wire")
	m.rejected = counters("rejected_total", "Handshakes and requests refused before a session, by wire.", "wire")
	m.opened = counter("connections_total", "Connections accepted.")
	m.closed = counters("disconnects_total", "Connections ended, by reason.", "reason")
	m.refused = counters("connections_refused_total", "Connections turned away, by reason.", "reason")
	m.paused = counters("reading_paused_total", "Times a connection's reading stopped, by reason.", "reason")
	m.frames = counter("frames_total", "Frames received.")
	bytes := counters("bytes_total", "Bytes read from and written to sockets.", "direction")
	m.in, m.out = bytes.WithLabelValues("in"), bytes.WithLabelValues("out")
	m.latency = histograms("request_seconds", "From a request's arrival to its last reply, by operation.",
		prometheus.ExponentialBuckets(0.0005, 2, 18), "op")
	m.lag = histograms("loop_lag_seconds", "Length of an event loop's turns.",
		prometheus.ExponentialBuckets(0.00001, 4, 10)).WithLabelValues().(prometheus.Histogram)
	for _, s := range store.Metrics() {
		m.stored[s] = counters(s.Name, s.Help, s.Label)
		m.failures[s] = g.o.Logger.Sample(&zerolog.BurstSampler{Burst: 1, Period: time.Minute})
	}
	gauge("connections", "Connections open.", nil, func() int { return g.reactor.Load().Conns })
	gauge("connections_unauthenticated", "Connections open without a session.", nil,
		func() int { return g.reactor.Load().Unestablished })
	gauge("buffered_bytes", "Bytes held for all clients: incomplete frames, requests, replies.", nil,
		func() int { return int(g.reactor.Load().Buffered) })
	gauge("largest_holder_bytes", "Bytes held for the client that holds most.", nil, func() int {
		if top := g.ledger.Largest(1); len(top) > 0 {
			return int(top[0].Bytes)
		}
		return 0
	})
	gauge("rules_age_seconds", "Time since the rules were last read from the database.", nil,
		func() int { return int(g.o.Clock().Sub(g.rules.LastRead()).Seconds()) })
	gauge("keys_age_seconds", "Time since the keys of the points were last read from the database.", nil,
		func() int { return int(g.o.Clock().Sub(time.Unix(0, g.keysRead.Load())).Seconds()) })
	sum := func(name, help string, value func() uint64) {
		m.all = append(m.all,
			prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "syncgate", Name: name, Help: help},
				func() float64 { return float64(value()) }))
	}
	gauge("taps", "Readers of every answered request, as syncgate tap is.", nil,
		func() int { return g.tap.lines.watching() })
	sum("downloads_shared_total", "Downloads that were answered from the read of another one.", g.handler.Shared)
	sum("sync_log_dropped_total", "Lines that sync_log lacks, because the database took none for too long.", g.log.lost)
	gauge("requests_waiting", "Requests waiting for a worker.", nil, func() int { return g.pool.Stats().Waiting })
	gauge("downloads_waiting", "Downloads waiting for a worker.", nil,
		func() int { return g.pool.Stats().WaitingDownloads })
	gauge("requests_running", "Requests being run.", nil, func() int { return g.pool.Stats().Running })
	m.limits(g, gauge)
	m.database(g, gauge)
	for _, s := range store.RuleStates() {
		gauge("rules", "Rows of sync_control by state.", prometheus.Labels{"state": string(s)},
			func() int { return g.rules.Count(s) })
	}
	m.all = append(m.all, newPointMetrics(g))
	return m
}

// limits are the bounds of gauges, each under the gauge's name.
func (m *metrics) limits(g *Gateway, gauge func(name, help string, labels prometheus.Labels, value func() int)) {
	for name, most := range map[string]int{
		"connections": g.o.Reactor.MaxConns, "connections_unauthenticated": g.o.Reactor.MaxUnestablished,
		"buffered_bytes": int(g.o.Reactor.MaxBuffered), "requests_waiting": g.o.Pool.Queue,
		"downloads_waiting": g.o.Pool.DownloadQueue, "requests_running": g.o.Pool.Workers + g.o.Pool.Downloads,
		"database_connections": g.o.Store.PoolStats().MaxOpenConnections,
	} {
		gauge(name+"_limit", "The most that syncgate_"+name+" may become.", nil, func() int { return most })
	}
}

// database are the metrics of the database and of the connections to it.
func (m *metrics) database(g *Gateway, gauge func(name, help string, labels prometheus.Labels, value func() int)) {
	add := func(c prometheus.Collector) { m.all = append(m.all, c) }
	m.up = prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "syncgate", Name: "database_up",
		Help: "1 while the database answers SELECT 1 within three seconds."})
	m.up.Set(1) // the gateway has read its rules
	m.probes = prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "syncgate", Name: "database_probe_seconds",
		Help: "How long the database takes to answer SELECT 1.", Buckets: prometheus.ExponentialBuckets(0.0001, 4, 9)})
	add(m.up)
	add(m.probes)
	pool := g.o.Store.PoolStats
	gauge("database_connections", "Connections to the database that are in use.", nil,
		func() int { return pool().InUse })
	add(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "syncgate", Name: "database_connection_waits_total",
		Help: "Times that a request waited for a connection to the database."},
		func() float64 { return float64(pool().WaitCount) }))
	add(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "syncgate",
		Name: "database_connection_wait_seconds_total",
		Help: "Time that requests waited for a connection to the database."},
		func() float64 { return pool().WaitDuration.Seconds() }))
	for table := range store.GrowingTables {
		gauge("table_rows", "Rows of a table of syncgate that grows, as the database estimates.",
			prometheus.Labels{"table": table}, func() int { return int(g.sizes.of(table)) })
	}
}

func (m *metrics) register(r prometheus.Registerer) error {
	var errs []error
	for _, c := range m.all {
		errs = append(errs, r.Register(c))
	}
	return errors.Join(errs...)
}

func (m *metrics) answered(op protocol.Op, s protocol.Status, took time.Duration) {
	name := op.String()
	if op == 0 || op > protocol.OpReport {
		name = "unknown" // a client may send any number, and labels must stay few
	}
	m.requests.WithLabelValues(name, s.String()).Inc()
	m.latency.WithLabelValues(name).Observe(took.Seconds())
}

// latencies sums the histograms of all operations.
func (m *metrics) latencies() map[float64]uint64 {
	series := make(chan prometheus.Metric)
	go func() { m.latency.Collect(series); close(series) }()
	all := map[float64]uint64{}
	for one := range series {
		var h dto.Metric
		if one.Write(&h) != nil { // it never fails for a histogram
			continue
		}
		for _, b := range h.GetHistogram().GetBucket() {
			all[b.GetUpperBound()] += b.GetCumulativeCount()
		}
	}
	return all
}

// probed records a probe of the database.
func (m *metrics) probed(err error, took time.Duration) {
	m.probes.Observe(took.Seconds())
	m.up.Set(1)
	if err != nil {
		m.up.Set(0)
	}
}

// count is the store's observer.
func (m *metrics) count(e store.Event) {
	if e.Metric == store.Retries {
		m.trouble.retried(e.Label, e.N)
	}
	m.stored[e.Metric].WithLabelValues(e.Label).Add(float64(e.N))
	if e.Err != nil {
		log := m.failures[e.Metric]
		log.Warn().Err(e.Err).Str(e.Metric.Label, e.Label).Msg(e.Metric.Failure)
	}
}

// Opened implements reactor.Observer.
func (m *metrics) Opened(int) { m.opened.Inc() }

// Closed implements reactor.Observer.
func (m *metrics) Closed(_ int, err error) { m.closed.WithLabelValues(reactor.Reason(err)).Inc() }

// Refused implements reactor.Observer.
func (m *metrics) Refused(_ int, err error) { m.refused.WithLabelValues(reactor.Reason(err)).Inc() }

// Paused implements reactor.Observer.
func (m *metrics) Paused(why reactor.Pause) { m.paused.WithLabelValues(why.String()).Inc() }

// Turned implements reactor.Observer.
func (m *metrics) Turned(t reactor.Turn) {
	m.frames.Add(float64(t.Frames))
	m.in.Add(float64(t.BytesIn))
	m.out.Add(float64(t.BytesOut))
	m.lag.Observe(t.Lag.Seconds())
}
