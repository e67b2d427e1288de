package gateway

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
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
	bytes       *prometheus.CounterVec // direction
	in, out     prometheus.Counter     // of bytes
	lag         prometheus.Histogram
	gauges      []prometheus.Collector

	stored   map[*store.Metric]*prometheus.CounterVec
	failures map[*store.Metric]zerolog.Logger // a line a minute of each
}

var _ reactor.Observer = (*metrics)(nil)

func newMetrics(g *Gateway) *metrics {
	counter := func(name, help string) prometheus.CounterOpts {
		return prometheus.CounterOpts{Namespace: "syncgate", Name: name, Help: help}
	}
	m := &metrics{
		requests:    prometheus.NewCounterVec(counter("requests_total", "Requests answered, by operation and status."), []string{"op", "status"}),
		established: prometheus.NewCounterVec(counter("sessions_total", "Sessions established, by wire."), []string{"wire"}),
		rejected:    prometheus.NewCounterVec(counter("rejected_total", "Handshakes and requests refused before a session, by wire."), []string{"wire"}),
		opened:      prometheus.NewCounter(counter("connections_total", "Connections accepted.")),
		closed:      prometheus.NewCounterVec(counter("disconnects_total", "Connections ended, by reason."), []string{"reason"}),
		refused:     prometheus.NewCounterVec(counter("connections_refused_total", "Connections turned away, by reason."), []string{"reason"}),
		paused:      prometheus.NewCounterVec(counter("reading_paused_total", "Times a connection's reading stopped, by reason."), []string{"reason"}),
		frames:      prometheus.NewCounter(counter("frames_total", "Frames received.")),
		bytes:       prometheus.NewCounterVec(counter("bytes_total", "Bytes read from and written to sockets."), []string{"direction"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{Namespace: "syncgate", Name: "request_seconds",
			Help: "From a request's arrival to its last reply, by operation.", Buckets: prometheus.ExponentialBuckets(0.0005, 2, 18)}, []string{"op"}),
		lag: prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: "syncgate", Name: "loop_lag_seconds",
			Help: "Length of an event loop's turns.", Buckets: prometheus.ExponentialBuckets(0.00001, 4, 10)}),
	}
	m.stored, m.failures = map[*store.Metric]*prometheus.CounterVec{}, map[*store.Metric]zerolog.Logger{}
	for _, s := range store.Metrics() {
		m.stored[s] = prometheus.NewCounterVec(counter(s.Name, s.Help), []string{s.Label})
		m.failures[s] = g.o.Logger.Sample(&zerolog.BurstSampler{Burst: 1, Period: time.Minute})
	}
	m.in, m.out = m.bytes.WithLabelValues("in"), m.bytes.WithLabelValues("out")
	gauge := func(name, help string, labels prometheus.Labels, value func() float64) {
		m.gauges = append(m.gauges, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "syncgate", Name: name, Help: help, ConstLabels: labels}, value))
	}
	gauge("connections", "Connections open.", nil, func() float64 { return float64(g.reactor.Load().Conns) })
	gauge("connections_unauthenticated", "Connections open without a session.", nil, func() float64 { return float64(g.reactor.Load().Unestablished) })
	gauge("buffered_bytes", "Bytes held for all clients: incomplete frames, requests, replies.", nil, func() float64 { return float64(g.reactor.Load().Buffered) })
	gauge("largest_holder_bytes", "Bytes held for the client that holds most.", nil, func() float64 {
		if top := g.ledger.Largest(1); len(top) > 0 {
			return float64(top[0].Bytes)
		}
		return 0
	})
	gauge("rules_age_seconds", "Time since the rules were last read from the database.", nil, func() float64 { return g.age(&g.rulesRead) })
	gauge("keys_age_seconds", "Time since the keys of the points were last read from the database.", nil, func() float64 { return g.age(&g.keysRead) })
	gauge("requests_waiting", "Requests waiting for a worker.", nil, func() float64 { return float64(g.pool.Stats().Waiting) })
	gauge("downloads_waiting", "Downloads waiting for a worker.", nil, func() float64 { return float64(g.pool.Stats().WaitingDownloads) })
	gauge("requests_running", "Requests being run.", nil, func() float64 { return float64(g.pool.Stats().Running) })
	for _, s := range store.RuleStates() {
		gauge("rules", "Rows of sync_control by state.", prometheus.Labels{"state": string(s)}, func() float64 { return float64(g.rules.Count(s)) })
	}
	return m
}

func (m *metrics) register(r prometheus.Registerer) error {
	all := append([]prometheus.Collector{m.requests, m.latency, m.established, m.rejected, m.opened, m.closed, m.refused,
		m.paused, m.frames, m.bytes, m.lag}, m.gauges...)
	for _, c := range m.stored {
		all = append(all, c)
	}
	var errs []error
	for _, c := range all {
		errs = append(errs, r.Register(c))
	}
	return errors.Join(errs...)
}

func (m *metrics) answered(op protocol.Op, s protocol.Status, took time.Duration) {
	name := op.String()
	if op == 0 || op > protocol.OpGoAway {
		name = "unknown" // a client may send any number, and labels must stay few
	}
	m.requests.WithLabelValues(name, s.String()).Inc()
	m.latency.WithLabelValues(name).Observe(took.Seconds())
}

// count is the store's observer.
func (m *metrics) count(e store.Event) {
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
