package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"syncgate/business"
	"syncgate/crypto"
	"syncgate/protocol"
	"syncgate/reactor"
	"syncgate/store"
)

// Options of New. Store, MasterKey, Listen and Rand are required; a zero elsewhere means the default, named where it is
// this package's own.
type Options struct {
	Store     *store.Store
	MasterKey *crypto.MasterKey
	Listen    string         // host:port of the modern wire
	Legacy    *LegacyOptions // nil: the seed-era wire is not served

	ServerID    string
	MaxFrame    int           // bytes of a frame's body
	MaxInFlight int           // requests of one connection; 16
	Keepalive   time.Duration // silence after which a client is asked whether it is there; 60 s. Twice that ends it
	Handshakes  int           // taken up a second; one address may use a tenth

	Reactor reactor.Options      // limits only: Listeners, Observer and IdleTimeout are set here
	Pool    business.PoolOptions // limits only: Runner, Clock and Logger are set here

	MaxUploadRows   int            // see business.HandlerOptions
	MaxDownloadRows int            // see business.HandlerOptions
	Location        *time.Location // of the store's time zone; UTC
	Drain           time.Duration  // for what is in hand when Run is told to stop; 20 s
	Poll            time.Duration  // how often rules and keys are looked at; 1 s

	Ready    func() // called once when connections are let in; may be nil
	Progress func() // called every 2 s while every loop makes progress; may be nil. For a watchdog

	Logger   zerolog.Logger
	Registry prometheus.Registerer // may be nil
	Clock    func() time.Time      // time.Now
	Rand     io.Reader             // cryptographic
}

// LegacyOptions are those of the seed-era listener. Allow and Clock of the wire's own are set here.
type LegacyOptions struct {
	Listen string // host:port
	protocol.LegacyOptions
}

// Gateway is a server. It is made by New and lives in Run.
type Gateway struct {
	o        Options
	noise    zerolog.Logger // for what strangers can cause: a few lines a second
	server   *protocol.Server
	reactor  *reactor.Reactor
	registry *business.Registry
	handler  *business.Handler
	pool     *business.Pool
	points   *points
	clerk    *clerk
	metrics  *metrics
	draining atomic.Bool
}

const watch = 2 * time.Second

// New checks the options, binds the listeners and makes a gateway. Nothing runs before Run.
func New(o Options) (*Gateway, error) {
	if o.Store == nil || o.MasterKey == nil || o.Listen == "" || o.Rand == nil {
		return nil, errors.New("gateway: Store, MasterKey, Listen and Rand are required")
	}
	o.setDefaults()
	g := &Gateway{o: o, clerk: newClerk()}
	g.noise = o.Logger.Sample(&zerolog.BurstSampler{Burst: 10, Period: time.Second})
	g.points = newPoints(o.Store, o.MasterKey, o.Legacy != nil, o.Logger)
	if err := g.work(); err != nil {
		return nil, err
	}
	listeners, err := g.listeners()
	if err != nil {
		return nil, err
	}
	g.metrics = newMetrics(g)
	ro := o.Reactor
	ro.Listeners, ro.Observer, ro.IdleTimeout = listeners, g.metrics, 2*o.Keepalive
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

func (o *Options) setDefaults() {
	if o.MaxInFlight <= 0 {
		o.MaxInFlight = 16
	}
	if o.Keepalive <= 0 {
		o.Keepalive = time.Minute
	}
	if o.Drain <= 0 {
		o.Drain = 20 * time.Second
	}
	if o.Poll <= 0 {
		o.Poll = time.Second
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	for _, f := range []*func(){&o.Ready, &o.Progress} {
		if *f == nil {
			*f = func() {}
		}
	}
}

// work makes what is behind the wires.
func (g *Gateway) work() (err error) {
	o := &g.o
	g.registry, err = business.NewRegistry(business.RegistryOptions{
		Source: o.Store, Sink: o.Store, Poll: o.Poll, Changed: g.broadcast, Clock: o.Clock, Logger: o.Logger,
	})
	if err != nil {
		return err
	}
	g.handler, err = business.NewHandler(business.HandlerOptions{
		Store: o.Store, Registry: g.registry, MaxUploadRows: o.MaxUploadRows, MaxDownloadRows: o.MaxDownloadRows,
		Location: o.Location, Clock: o.Clock, Logger: o.Logger,
	})
	if err != nil {
		return err
	}
	po := o.Pool
	po.Runner, po.Clock, po.Logger, po.Drain = g.handler, o.Clock, o.Logger, o.Drain
	g.pool, err = business.NewPool(po)
	return err
}

// listeners makes both wires.
func (g *Gateway) listeners() ([]reactor.Listener, error) {
	o := &g.o
	so := protocol.ServerOptions{
		Keys: g.points.keyring.Lookup, RulesVersion: g.registry.Version, Clock: o.Clock, Rand: o.Rand, ServerID: o.ServerID,
		MaxFrame: o.MaxFrame, MaxInFlight: o.MaxInFlight, Keepalive: o.Keepalive,
		Handshakes: o.Handshakes,
	}
	var err error
	if g.server, err = protocol.NewServer(so); err != nil {
		return nil, err
	}
	modern := &handler{g: g, name: "modern"}
	all := []reactor.Listener{{
		Address: o.Listen, Split: protocol.Split, Handler: modern, FirstFrameMax: protocol.HandshakeMax, MaxInFlight: o.MaxInFlight,
		Refusal: protocol.BusyFrame(time.Second), Idle: modern.idle, Drain: modern.farewell,
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
		Address: o.Legacy.Listen, Split: protocol.SplitLegacy, Handler: legacy,
		MaxInFlight:      1,                // requests have no ids, so that one is answered before the next is read
		HandshakeTimeout: 30 * time.Second, // the first request, which may be of 4 MiB, says who it is
	}), nil
}

// Addr is where the modern wire is served.
func (g *Gateway) Addr() netip.AddrPort { return g.reactor.Addrs()[0] }

// LegacyAddr is where the seed-era wire is served; the zero AddrPort when it is not.
func (g *Gateway) LegacyAddr() netip.AddrPort {
	if all := g.reactor.Addrs(); len(all) > 1 {
		return all[1]
	}
	return netip.AddrPort{}
}

// Stats is a moment's load, for a status page.
type Stats struct {
	reactor.Load
	business.PoolStats
	RulesVersion uint64
	Rules        map[string]int // by state
}

// Stats is the load at this moment.
func (g *Gateway) Stats() Stats {
	s := Stats{Load: g.reactor.Load(), PoolStats: g.pool.Stats(), RulesVersion: g.registry.Version(), Rules: map[string]int{}}
	for _, state := range store.RuleStates() {
		s.Rules[string(state)] = g.registry.Count(state)
	}
	return s
}

// Run serves until ctx ends, then drains. It returns when every goroutine has ended; the error says what could not be
// started, what failed, or what the drain deadline cut (a *reactor.CutError, business.ErrDrainCut). After it the
// gateway cannot be used again.
func (g *Gateway) Run(ctx context.Context) error {
	if err := g.load(ctx); err != nil {
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
	cleared.Go(g.clerk.run)
	others.Go(func() { _ = g.registry.Run(base) }) // nil
	others.Go(func() { g.keep(base) })
	others.Go(func() { g.watch(base) })
	g.o.Ready()

	var serveErr error
	select {
	case <-ctx.Done():
	case serveErr = <-served:
		served <- nil
	}
	g.draining.Store(true)
	g.o.Logger.Info().Dur("deadline", g.o.Drain).Msg("draining")
	stopPool()
	deadline, cancel := context.WithTimeout(base, g.o.Drain)
	defer cancel()
	drainErr := g.reactor.Drain(deadline)
	poolErr := <-pooled
	if err := <-served; !errors.Is(err, reactor.ErrRun) { // ErrRun: it was drained before it began
		serveErr = errors.Join(serveErr, err)
	}
	g.clerk.close()
	cleared.Wait()
	stopAll()
	others.Wait()
	if err := g.points.flush(context.WithoutCancel(ctx), math.MaxInt); err != nil {
		g.o.Logger.Warn().Err(err).Msg("the last connections are not written down")
	}
	return errors.Join(serveErr, drainErr, poolErr)
}

// load reads keys and rules before anybody is let in.
func (g *Gateway) load(ctx context.Context) error {
	if _, err := g.points.refresh(ctx); err != nil {
		return fmt.Errorf("gateway: read the points' keys: %w", err)
	}
	err := g.registry.Refresh(ctx)
	select {
	case <-g.registry.Ready():
		return nil // what could not be recorded, on a database that is read-only now, is recorded later
	default:
		return fmt.Errorf("gateway: read the rules: %w", err)
	}
}

// keep follows the points' keys, and writes down who connected.
func (g *Gateway) keep(ctx context.Context) {
	tick := time.NewTicker(g.o.Poll)
	defer tick.Stop()
	for away := false; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		lost, err := g.points.refresh(ctx)
		if lost {
			g.evict()
		}
		if err == nil {
			err = g.points.flush(ctx, 200) // a storm of reconnects must not hold up a revocation
		}
		if ctx.Err() == nil && (err != nil) != away {
			if away = err != nil; away {
				g.o.Logger.Warn().Err(err).Msg("keys of points cannot be followed; those known stay good")
			} else {
				g.o.Logger.Info().Msg("keys of points are followed again")
			}
		}
	}
}

// watch reports progress while every loop makes some.
func (g *Gateway) watch(ctx context.Context) {
	tick := time.NewTicker(watch)
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
		if last = now; stuck >= 0 {
			g.o.Logger.Error().Int("loop", stuck).Msg("an event loop makes no progress")
			continue
		}
		g.o.Progress()
	}
}
