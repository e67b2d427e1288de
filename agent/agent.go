package agent

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"syncgate/internal/rowset"
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

	// The outbox: over either of its limits nothing is read but rules of which nothing waits.
	BatchRows     int   // rows of one upload at most; default 1000
	OutboxBatches int   // uploads that may wait; default 10,000
	OutboxBytes   int64 // bytes of them, also the most that one read may give; default 1 GiB

	ReconnectMin time.Duration // first pause before connecting again, doubled each time; default 250 ms
	ReconnectMax time.Duration // longest; default 1 min
	RetryMin     time.Duration // the same for a rule that does not get on; default 1 s
	RetryMax     time.Duration // longest; default 5 min

	Log   zerolog.Logger   // default: nothing is logged
	Clock func() time.Time // default time.Now
	Rand  io.Reader        // default crypto/rand
}

const maxSoftware = 64 // bytes that a HELLO has room for

func (o *Options) setDefaults() error {
	switch {
	case o.Store == nil:
		return errors.New("agent: Options.Store is nil")
	case o.Server == "":
		return errors.New("agent: Options.Server is empty")
	case o.Point == "" || len(o.Point) > 64:
		return errors.New("agent: Options.Point must have 1 to 64 bytes")
	case o.BatchRows < 0 || o.OutboxBatches < 0 || o.OutboxBytes < 0:
		return errors.New("agent: a limit of Options is negative")
	}
	o.Software = cmp.Or(o.Software, "syncgate-agent")
	o.Software = strings.ToValidUTF8(o.Software[:min(len(o.Software), maxSoftware)], "")
	o.Interval = cmp.Or(o.Interval, 10*time.Second)
	o.FullInterval = cmp.Or(o.FullInterval, 6*o.Interval)
	o.RulesEvery = cmp.Or(o.RulesEvery, time.Second)
	o.BatchRows = cmp.Or(o.BatchRows, 1000)
	o.OutboxBatches = cmp.Or(o.OutboxBatches, 10_000)
	o.OutboxBytes = cmp.Or(o.OutboxBytes, 1<<30)
	o.ReconnectMin = cmp.Or(o.ReconnectMin, 250*time.Millisecond)
	o.ReconnectMax = cmp.Or(o.ReconnectMax, time.Minute)
	o.RetryMin = cmp.Or(o.RetryMin, time.Second)
	o.RetryMax = cmp.Or(o.RetryMax, 5*time.Minute)
	if o.Clock == nil {
		o.Clock = time.Now
	}
	o.Rand = cmp.Or(o.Rand, rand.Reader)
	return nil
}

// env is what a plan is bound to besides the row in hand. Times are UTC, as the local
// database's session is.
func (o *Options) env(plan *rule.Plan, state []rowset.StateItem) rule.Env {
	now := o.Clock().UTC()
	since, until := plan.Window(now)
	e := rule.Env{Since: since, Until: until, Now: now, Point: o.Point, Limit: o.BatchRows}
	for _, s := range state {
		e.State = append(e.State, rowset.StateItem(s))
	}
	return e
}

// Agent keeps one point in step with the centre. Run or Once may be called once.
type Agent struct {
	opts     Options
	claim    claim
	book     *book
	link     *link
	outbox   *outbox
	progress progress
	used     atomic.Bool
	pages    chan struct{} // a token each download in flight
	once     bool          // this is Once: a loop ends when it has nothing more to do
}

// New checks the options and starts nothing.
func New(o Options) (*Agent, error) {
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	a := &Agent{opts: o, claim: claim{db: o.Store, wait: claimWait}, progress: progress{lines: make(map[ruleName]Line)},
		pages: make(chan struct{}, maxPages)}
	a.book = &book{opts: &a.opts, changed: newSignal()}
	a.link = &link{opts: &a.opts, sessions: make(chan *session), rulesNews: newSignal()}
	a.outbox = &outbox{opts: &a.opts}
	return a, nil
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
		err = a.outbox.open(ctx)
	}
	if err != nil {
		return fmt.Errorf("local database: %w", err)
	}
	a.outbox.depth(a.opts.Log.Info()).Str("point", a.opts.Point).Int("rules", len(a.book.names())).Msg("agent starts")
	return nil
}

// fetched names the loop that fetches the centre's rules, and the state that is their version.
var fetched = ruleName{"rules", "fetched"}

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
	var wg sync.WaitGroup
	wg.Go(func() { cancel(a.claim.keep(ctx)) })
	wg.Go(func() { _ = a.link.run(ctx, true) }) // this and the loops end with ctx only
	a.loop(ruleName{"rules", "local"}, nil).start(ctx, &wg, a.reload)
	a.loop(fetched, a.link.rulesNews).start(ctx, &wg, a.refresh)
	a.supervise(ctx, &wg)
	wg.Wait()
	a.outbox.depth(a.opts.Log.Info()).Msg("agent stopped")
	if err := context.Cause(ctx); errors.Is(err, ErrTaken) {
		return err
	}
	return nil
}

// supervise starts the loops of each rule there is and of each table whose batches are left
// over, and wakes those whose rule has changed or which are in trouble, until ctx ends.
func (a *Agent) supervise(ctx context.Context, wg *sync.WaitGroup) {
	loops := make(map[ruleName][]*loop)
	plans := make(map[ruleName]*rule.Plan) // as the loops know them
	for {
		for name := range a.wanted() {
			plan := a.book.find(name).plan
			if loops[name] == nil {
				loops[name] = a.start(ctx, wg, name)
			} else if plan != plans[name] || a.progress.failed(name) {
				for _, l := range loops[name] {
					l.rules.raise()
				}
			}
			plans[name] = plan
		}
		select {
		case <-ctx.Done():
			return
		case <-a.book.changed:
		}
	}
}

// start starts the loops of a rule; the progress has what becomes of them.
func (a *Agent) start(ctx context.Context, wg *sync.WaitGroup, name ruleName) []*loop {
	switch name.direction {
	case rule.Download:
		l := a.loop(name, nil)
		return []*loop{l.start(ctx, wg, l.download)}
	case rule.Upload:
		read, sent := newSignal(), newSignal()
		reader, sender := &uploads{loop: a.loop(name, nil), read: read, sent: sent}, &uploads{loop: a.loop(name, read), sent: sent}
		if a.once {
			return []*loop{reader.start(ctx, wg, reader.round)}
		}
		return []*loop{reader.start(ctx, wg, reader.collect), sender.start(ctx, wg, sender.send)}
	}
	return nil // the book knows a rule of no direction as broken
}

// wanted is the rules there should be loops for.
func (a *Agent) wanted() map[ruleName]bool {
	names := make(map[ruleName]bool)
	for _, name := range a.book.names() {
		names[name] = true
	}
	for _, table := range a.outbox.leftover {
		names[ruleName{rule.Upload, table}] = true
	}
	return names
}

// Once makes one round: it fetches the rules if the centre's have changed, reads every
// upload rule until it is short, sends all that the outbox holds, and downloads until
// nothing is left. The error joins the reasons of the rules that did not come to their
// end; the report says for each what moved. A server that cannot be reached ends the
// round at once, a busy one after a few tries.
func (a *Agent) Once(ctx context.Context) (Report, error) {
	defer a.claim.release()
	if err := a.open(ctx); err != nil {
		return nil, err
	}
	a.once = true
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { cancel(a.link.run(ctx, false)) })
	if a.loop(fetched, nil).run(ctx, a.refresh) == nil {
		var loops sync.WaitGroup
		for name := range a.wanted() {
			a.start(ctx, &loops, name)
		}
		loops.Wait()
	}
	errs := []error{context.Cause(ctx)} // if ctx has ended, all the rules have failed for this one reason
	cancel(nil)
	wg.Wait()
	report := a.Report()
	for _, l := range report {
		if errs[0] == nil && l.Err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", l.Type, l.Table, l.Err))
		}
	}
	return report, errors.Join(errs...)
}

// Report is what has moved so far. It may be called at any time.
func (a *Agent) Report() Report { return a.progress.report(a.book) }
