package agent

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"syncgate/rule"
	"syncgate/store"
)

// Options of an agent. Store, Server, Point and Key are required; of the others the zero
// value is the default.
type Options struct {
	Store  *store.Store // the point's own database, migrated with the set agent
	Server string       // host:port
	Point  string       // 1 to 64 bytes of UTF-8
	KeyID  uint32
	Key    [32]byte

	Software string // told to the server; default syncgate-agent

	Interval     time.Duration // between two rounds of a rule that goes on from its state; default 10 s
	FullInterval time.Duration // between two rounds of a rule that reads everything each time; default 6 Intervals
	RulesEvery   time.Duration // how often the local rules are looked at; default 1 s

	BatchRows     int   // rows of one upload at most; default 1000
	DownloadRows  int   // rows of one download at most, 0: the server's choice
	OutboxBatches int   // uploads that may wait; default 10,000
	OutboxBytes   int64 // bytes of them; default 1 GiB

	ReconnectMin time.Duration // first pause before connecting again, doubled each time; default 250 ms
	ReconnectMax time.Duration // longest; default 1 min
	RetryMin     time.Duration // the same for a rule that does not get on; default 1 s
	RetryMax     time.Duration // longest; default 5 min

	Location *time.Location // of the local database's session, for :since, :until and :now; default UTC

	Log   zerolog.Logger   // default: nothing is logged
	Clock func() time.Time // default time.Now
	Rand  io.Reader        // default crypto/rand
}

func (o *Options) setDefaults() error {
	switch {
	case o.Store == nil:
		return errors.New("agent: Options.Store is nil")
	case o.Server == "":
		return errors.New("agent: Options.Server is empty")
	case o.Point == "" || len(o.Point) > 64:
		return errors.New("agent: Options.Point must have 1 to 64 bytes")
	case o.BatchRows < 0 || o.OutboxBatches < 0 || o.OutboxBytes < 0 || o.DownloadRows < 0 || o.DownloadRows > math.MaxInt32:
		return errors.New("agent: a limit of Options is negative or too large")
	}
	or(&o.Software, "syncgate-agent")
	o.Software = strings.ToValidUTF8(o.Software[:min(len(o.Software), maxSoftware)], "")
	or(&o.Interval, 10*time.Second)
	or(&o.FullInterval, 6*o.Interval)
	or(&o.RulesEvery, time.Second)
	or(&o.BatchRows, 1000)
	or(&o.OutboxBatches, 10_000)
	or(&o.OutboxBytes, 1<<30)
	or(&o.ReconnectMin, 250*time.Millisecond)
	or(&o.ReconnectMax, time.Minute)
	or(&o.RetryMin, time.Second)
	or(&o.RetryMax, 5*time.Minute)
	or(&o.Location, time.UTC)
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	return nil
}

// maxSoftware is what a HELLO has room for, in bytes.
const maxSoftware = 64

func or[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

func (o *Options) retry() backoff { return backoff{first: o.RetryMin, limit: o.RetryMax} }

// pauseAfter is how long a rule rests when it has nothing more to give.
func (o *Options) pauseAfter(plan *rule.Plan) time.Duration {
	if plan.Paged() || len(plan.UpdateState) > 0 {
		return o.Interval
	}
	return o.FullInterval
}

// env is what a plan is bound to besides the row in hand.
func (o *Options) env(plan *rule.Plan, state []rule.StateItem, limit int) rule.Env {
	now := o.Clock().In(o.Location)
	since, until := plan.Window(now)
	return rule.Env{State: state, Since: since, Until: until, Now: now, Point: o.Point, Limit: limit}
}

// Agent keeps one point in step with the centre. Run or Once may be called once.
type Agent struct {
	opts   Options
	book   *book
	link   *link
	outbox *outbox
	tally  tally
	claim  claim

	used         atomic.Bool
	rulesVersion atomic.Uint64 // the centre's, as last heard of
	rulesNotice  signal        // raised when it was heard
}

// New checks the options and starts nothing.
func New(o Options) (*Agent, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	a := &Agent{opts: o, rulesNotice: newSignal(), claim: claim{db: o.Store, wait: claimWait},
		tally: tally{moved: make(map[ruleName]moved), errs: make(map[ruleName]error)}}
	a.book = newBook(&a.opts)
	a.link = newLink(&a.opts, func(version uint64) {
		a.rulesVersion.Store(version)
		a.rulesNotice.raise()
	})
	return a, nil
}

// Report is what has moved so far. It may be called at any time.
func (a *Agent) Report() Report {
	var names []ruleName
	for _, direction := range []string{rule.Upload, rule.Download} {
		for _, p := range a.book.plans(direction) {
			names = append(names, ruleName{direction, p.Row.Table})
		}
	}
	return a.tally.report(names)
}

// open claims the database and reads the rules and the outbox. The claim is to be
// released also after an error.
func (a *Agent) open(ctx context.Context) error {
	if a.used.Swap(true) {
		return errors.New("agent: Run and Once may be called once")
	}
	err := a.claim.take(ctx)
	if err == nil {
		err = a.book.reload(ctx, true)
	}
	if err == nil {
		a.outbox, err = openOutbox(ctx, &a.opts)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errLocal, err)
	}
	batches, bytes := a.outbox.depth()
	a.opts.Log.Info().Str("point", a.opts.Point).Int("outbox_batches", batches).Int64("outbox_bytes", bytes).
		Int("uploads", len(a.book.plans(rule.Upload))).Int("downloads", len(a.book.plans(rule.Download))).Msg("agent starts")
	return nil
}

// Run keeps the point in step until ctx ends, then returns nil with every goroutine
// joined. An error means that it could not begin: the local database did not answer, lacks
// its tables or is worked on by another agent (ErrTaken). Later troubles are logged and
// outlived, except that another agent took the database over.
func (a *Agent) Run(ctx context.Context) error {
	defer a.claim.release()
	if err := a.open(ctx); ctx.Err() != nil {
		return nil
	} else if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c := newCollector(a)
	parts := []func(context.Context) error{
		func(ctx context.Context) error { return a.link.run(ctx, true) },
		c.run, a.keepRules, a.followRules, a.lanes,
	}
	var wg sync.WaitGroup
	wg.Go(func() { cancel(a.claim.keep(ctx)) })
	for _, part := range parts {
		wg.Go(func() { _ = part(ctx) }) // each ends with ctx only, and says so
	}
	wg.Wait()
	batches, bytes := a.outbox.depth()
	a.opts.Log.Info().Int("outbox_batches", batches).Int64("outbox_bytes", bytes).Msg("agent stopped")
	if err := context.Cause(ctx); errors.Is(err, ErrTaken) {
		return err
	}
	return nil
}

// keepRules looks at the local rules, and at their tables.
func (a *Agent) keepRules(ctx context.Context) error {
	trouble, wait := a.trouble("rules", "local"), a.opts.retry()
	for {
		rest := a.opts.RulesEvery
		if err := a.book.reload(ctx, false); err != nil && ctx.Err() == nil {
			rest = lanePause(fmt.Errorf("%w: %w", errLocal, err), &wait, &trouble)
		} else {
			trouble.clear()
			wait.reset()
		}
		if !pause(ctx, rest, nil) {
			return ctx.Err()
		}
	}
}

// followRules asks for the centre's rules when their version is another than that of the
// ones that are stored.
func (a *Agent) followRules(ctx context.Context) error {
	trouble, wait := a.trouble("rules", "fetched"), a.opts.retry()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.rulesNotice:
		}
		err := a.refresh(ctx)
		if err == nil {
			trouble.clear()
			wait.reset()
			continue
		}
		if ctx.Err() != nil || !pause(ctx, lanePause(err, &wait, &trouble), nil) {
			return ctx.Err()
		}
		a.rulesNotice.raise()
	}
}

// refresh fetches the rules if the version last heard of is not that of the stored ones.
func (a *Agent) refresh(ctx context.Context) error {
	version, known, err := fetchedVersion(ctx, a.opts.Store)
	if err != nil {
		return fmt.Errorf("%w: %w", errLocal, err)
	}
	if known && version == a.rulesVersion.Load() {
		return nil
	}
	if err := a.book.fetch(ctx, a.link); err != nil {
		return err
	}
	a.book.lanes.raise() // what the centre has refused it may take now
	return nil
}
