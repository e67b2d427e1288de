package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"syncgate/business"
	"syncgate/crypto"
	"syncgate/internal/account"
	"syncgate/internal/limit"
	"syncgate/internal/logging"
	"syncgate/protocol"
	"syncgate/reactor"
	"syncgate/rule"
	"syncgate/ruleset"
	"syncgate/store"
)

// Options of New. Store, MasterKey, Listen and Rand are required. A number that is zero takes its default from Limits.
type Options struct {
	Store     *store.Store
	MasterKey *crypto.MasterKey
	Listen    string         // host:port of the v2 wire
	Legacy    *LegacyOptions // nil: the v1 wire is not served

	// Of these only the limits and Wire's ServerID are read; New sets the rest. A connection that
	// is silent for Wire.Keepalive is pinged, and closed after twice that. Pool.Drain bounds the whole drain.
	Wire    protocol.ServerOptions
	Reactor reactor.Options
	Pool    business.PoolOptions
	Handler business.HandlerOptions

	Poll       time.Duration // how often rules and keys are read
	PointConns int           // connections of one point

	PointMetrics bool          // each point and each of its rules has metrics of its own
	KeepLog      time.Duration // how long lines of sync_log are kept

	Ready    func() // called once when the gateway accepts connections; may be nil
	Progress func() // called every 2 s while every loop makes progress; may be nil. For a watchdog

	Logger   zerolog.Logger
	Registry prometheus.Registerer // may be nil
	Clock    func() time.Time      // time.Now
	Rand     io.Reader             // cryptographic
}

// LegacyOptions are those of the v1 wire. The gateway sets Allow and Clock of protocol.LegacyOptions.
type LegacyOptions struct {
	Listen string // host:port
	protocol.LegacyOptions
}

// Gateway is a server. New makes it and Run runs it.
type Gateway struct {
	o Options
	// sampledLog is for lines that a client without a key can cause: a few a second.
	sampledLog zerolog.Logger
	server     *protocol.Server
	reactor    *reactor.Reactor
	rules      *ruleset.Set
	handler    *business.Handler
	pool       *business.Pool
	points     *points
	ledger     *account.Ledger
	replies    *turns // seal short messages: an event loop must not wait for a session's lock
	decoding   *turns // read packets of the v1 wire, which may take long
	metrics    *metrics
	draining   atomic.Bool
	activity   activity
	reports    reports
	trouble    trouble
	sizes      sizes
	log        *syncLog
	news       *news
	tap        tap
	shares     logging.Limiter // lines about points that have their share
	visits     logging.Limiter // lines about a point that connects or leaves
	keysRead   atomic.Int64    // nanoseconds since 1970 of the last read of the points' keys
	stuckLoop  atomic.Int64    // number of an event loop without progress, from 1; 0: none
}

// seenEvery is how often it is saved that a point is still connected.
const seenEvery = 30 * time.Second

const watchdogPeriod = 2 * time.Second

// New checks the options, binds the listeners and makes a gateway. Nothing runs before Run.
func New(o Options) (*Gateway, error) {
	if o.Store == nil || o.MasterKey == nil || o.Listen == "" || o.Rand == nil {
		return nil, errors.New("gateway: Store, MasterKey, Listen and Rand are required")
	}
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	g := &Gateway{o: o, ledger: account.New(o.Reactor.MaxBuffered),
		replies: newTurns(), decoding: newTurns(), log: newSyncLog(o.Logger),
		shares: logging.Limiter{Burst: 1, Period: time.Minute, Clock: o.Clock}}
	g.visits = logging.Limiter{Burst: 1, Period: time.Second, Clock: o.Clock}
	g.sampledLog = o.Logger.Sample(&zerolog.BurstSampler{Burst: 10, Period: time.Second})
	g.points = newPoints(o.Store, o.MasterKey, o.Legacy != nil, o.Logger)
	g.news, g.tap.lines.most = newNews(g), tapLines
	if err := g.newBackend(); err != nil {
		return nil, err
	}
	listeners, err := g.listeners()
	if err != nil {
		return nil, err
	}
	g.metrics = newMetrics(g)
	o.Store.Observe(g.metrics.count)
	ro := o.Reactor
	ro.Listeners, ro.Observer, ro.IdleTimeout, ro.Ledger = listeners, g.metrics, 2*o.Wire.Keepalive, g.ledger
	if g.reactor, err = reactor.New(ro); err != nil {
		return nil, err
	}
	if o.Registry != nil {
		if err := g.metrics.register(o.Registry); err != nil {
			return nil, errors.Join(err, g.reactor.Drain(context.Background()))
		}
	}
	return g, nil
}

// Limits are the defaults and bounds of the options and of those of the packages that the gateway sets up.
func (o *Options) Limits() []limit.Limit {
	own := []limit.Limit{
		limit.Time("Poll", &o.Poll, time.Second, time.Millisecond, time.Hour),
		limit.Count("PointConns", &o.PointConns, 256, 1, 1<<24),
		limit.Time("KeepLog", &o.KeepLog, 30*24*time.Hour, time.Minute, 10*365*24*time.Hour),
	}
	return slices.Concat(own, o.Wire.Limits(), o.Reactor.Limits(), o.Pool.Limits(), o.Handler.Limits())
}

func (o *Options) setDefaults() error {
	if o.Clock == nil {
		o.Clock = time.Now
	}
	for _, f := range []*func(){&o.Ready, &o.Progress} {
		if *f == nil {
			*f = func() {}
		}
	}
	return limit.Fill("gateway", o.Limits())
}

// newBackend makes the rule set, the handler and the pool.
func (g *Gateway) newBackend() (err error) {
	o := &g.o
	g.rules, err = ruleset.New(ruleset.Options{
		Source: o.Store, Sink: o.Store, Side: rule.Server, Poll: o.Poll, Changed: g.news.rulesChanged, Clock: o.Clock,
		Logger: o.Logger,
	})
	if err != nil {
		return err
	}
	ho := o.Handler
	ho.Store, ho.Rules, ho.Clock, ho.Logger, ho.Reported = o.Store, g.rules, o.Clock, o.Logger, g.reported
	ho.Failed = func(err error) { g.trouble.met(err, o.Clock()) }
	if g.handler, err = business.NewHandler(ho); err != nil {
		return err
	}
	po := o.Pool
	po.Runner, po.Clock, po.Logger, po.Away = g.handler, o.Clock, o.Logger, g.trouble.away.Load
	g.pool, err = business.NewPool(po)
	return err
}

// listeners makes both wires.
func (g *Gateway) listeners() ([]reactor.Listener, error) {
	o := &g.o
	so := o.Wire
	so.Keys, so.RulesVersion, so.Clock, so.Rand = g.points.key, g.rules.Version, o.Clock, o.Rand
	so.Ledger = g.ledger
	var err error
	if g.server, err = protocol.NewServer(so); err != nil {
		return nil, err
	}
	modern := &handler{g: g, name: "modern"}
	all := []reactor.Listener{{
		Address: o.Listen, Split: protocol.Length, Handler: modern,
		FirstFrameMax: protocol.HandshakeMax, MaxInFlight: o.Wire.MaxInFlight,
		Refusal: func(error) []byte { return protocol.BusyFrame(time.Second) }, Idle: modern.idle, Drain: modern.drain,
	}}
	if o.Legacy == nil {
		return all, nil
	}
	lo := o.Legacy.LegacyOptions
	lo.Allow, lo.Clock = g.points.legacyAllowed, o.Clock
	l, err := protocol.NewLegacy(lo)
	if err != nil {
		return nil, err
	}
	legacy := &handler{g: g, legacy: l, name: "legacy"}
	return append(all, reactor.Listener{
		Address: o.Legacy.Listen, Split: protocol.SplitLegacy, Handler: legacy, Peek: legacy.peek,
		Overrun: legacy.overrun, Refusal: legacy.refusal,
		MaxInFlight:      1,                // requests have no ids, so that one is answered before the next is read
		HandshakeTimeout: 30 * time.Second, // until the first bytes show an agent
	}), nil
}

// Addr is where the v2 wire is served.
func (g *Gateway) Addr() netip.AddrPort { return g.reactor.Addrs()[0] }

// LegacyAddr is where the v1 wire is served; the zero AddrPort when it is not.
func (g *Gateway) LegacyAddr() netip.AddrPort {
	if all := g.reactor.Addrs(); len(all) > 1 {
		return all[1]
	}
	return netip.AddrPort{}
}

// Stats is a moment's load, for a status page, and counters since the start.
type Stats struct {
	reactor.Load
	business.PoolStats
	RowsUp, RowsDown uint64
	Latencies        map[float64]uint64 // requests that took at most so many seconds
}

// Stats is the load at this moment.
func (g *Gateway) Stats() Stats {
	s := Stats{Load: g.reactor.Load(), PoolStats: g.pool.Stats(), Latencies: g.metrics.latencies()}
	g.activity.mu.Lock()
	defer g.activity.mu.Unlock()
	s.RowsUp, s.RowsDown = g.activity.up, g.activity.down
	return s
}

// QuarantinePlan is the plan in force that applies a row of sync_quarantine; nil when there is none now.
func (g *Gateway) QuarantinePlan(q *store.QuarantinedRow) (*rule.Plan, rule.Env) {
	return g.handler.WaitingPlan(q)
}

// Run serves until ctx ends and then drains. It returns when every goroutine has ended. The error is a failed start, a
// later failure, or the work that the drain deadline cut (a *reactor.CutError, business.ErrDrainCut). Run may be called
// once.
func (g *Gateway) Run(ctx context.Context) error {
	if err := g.loadInitial(ctx); err != nil {
		return errors.Join(err, g.reactor.Drain(context.WithoutCancel(ctx)))
	}
	base, stopAll := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAll()
	pool, stopPool := context.WithCancel(base)
	served := make(chan error, 1)
	pooled := make(chan error, 1)
	var others sync.WaitGroup
	go func() { served <- g.reactor.Run(base) }()
	go func() { pooled <- g.pool.Run(pool) }()
	var cleared sync.WaitGroup
	cleared.Go(g.replies.run)
	for range decoders() {
		cleared.Go(g.decoding.run)
	}
	others.Go(func() { g.rules.Run(base) })
	others.Go(func() { g.pollKeys(base) })
	others.Go(func() { g.o.Store.RetryWaiting(base, g.handler.WaitingPlan) })
	others.Go(func() { g.watchdog(base) })
	others.Go(func() { g.watchDatabase(base) })
	others.Go(func() { g.sayLog(base) })
	others.Go(func() { g.keepLog(base) })
	others.Go(func() { g.news.run(base) })
	g.o.Ready()

	var serveErr error
	select {
	case <-ctx.Done():
	case serveErr = <-served:
		served <- nil
	}
	g.draining.Store(true)
	g.o.Logger.Info().Dur("deadline", g.o.Pool.Drain).Msg("draining")
	stopPool()
	deadline, cancel := context.WithTimeout(base, g.o.Pool.Drain)
	defer cancel()
	drainErr := g.reactor.Drain(deadline)
	poolErr := <-pooled
	if err := <-served; !errors.Is(err, reactor.ErrRun) { // ErrRun: it was drained before it began
		serveErr = errors.Join(serveErr, err)
	}
	g.replies.close()
	g.decoding.close()
	cleared.Wait()
	stopAll()
	others.Wait()
	if err := g.points.flush(context.WithoutCancel(ctx), math.MaxInt); err != nil {
		g.o.Logger.Warn().Err(err).Msg("the last connections are not written down")
	}
	return errors.Join(serveErr, drainErr, poolErr)
}

// loadInitial reads keys and rules before the gateway accepts connections.
func (g *Gateway) loadInitial(ctx context.Context) error {
	if _, err := g.points.refresh(ctx); err != nil {
		return fmt.Errorf("gateway: read the points' keys: %w", err)
	}
	g.keysRead.Store(g.o.Clock().UnixNano())
	err := g.rules.Refresh(ctx)
	select {
	case <-g.rules.Ready():
		return nil // a database that is read-only now gets the states later
	default:
		return fmt.Errorf("gateway: read the rules: %w", err)
	}
}

// pollKeys reads changes of the points' keys and saves which points have connected.
func (g *Gateway) pollKeys(ctx context.Context) {
	tick, seen := time.NewTicker(g.o.Poll), time.NewTicker(seenEvery)
	defer tick.Stop()
	defer seen.Stop()
	for away := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-seen.C:
			g.reactor.Each(func(c *reactor.Conn) { c.Data.(*session).seen() })
			continue
		case <-tick.C:
		}
		g.server.Sweep()
		err := g.readKeys(ctx)
		if ctx.Err() == nil && (err != nil) != away {
			if away = err != nil; away {
				g.o.Logger.Warn().Err(err).Msg("keys of points cannot be followed; those known stay good")
			} else {
				g.o.Logger.Info().Msg("keys of points are followed again")
			}
		}
	}
}

func (g *Gateway) readKeys(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	lost, err := g.points.refresh(ctx)
	if lost {
		g.closeRevoked()
	}
	if err != nil {
		return err
	}
	g.keysRead.Store(g.o.Clock().UnixNano())
	if err := g.points.flush(ctx, 500); err != nil { // a storm of reconnects must not hold up a revocation
		return err
	}
	return g.reports.flush(ctx, g.o.Store)
}

// watchdog reports progress while every loop makes some.
func (g *Gateway) watchdog(ctx context.Context) {
	tick := time.NewTicker(watchdogPeriod)
	defer tick.Stop()
	last := g.reactor.Progress()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := g.reactor.Progress()
		stuck := -1
		for i := range now {
			if now[i] == last[i] {
				stuck = i
			}
		}
		g.stuckLoop.Store(int64(stuck + 1))
		if last = now; stuck >= 0 {
			g.o.Logger.Error().Int("loop", stuck).Msg("an event loop makes no progress")
			continue
		}
		g.o.Progress()
	}
}
