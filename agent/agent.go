package agent

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"syncgate/internal/limit"
	"syncgate/internal/rowset"
	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/store"
)

// Options of an agent. Store, Server, Point and Key are required. A number that is zero takes its default from Limits.
type Options struct {
	Store  *store.Store // the point's own database, migrated with the set agent
	Server string       // host:port, or several, see newServers
	Point  string       // 1 to 64 bytes of UTF-8
	KeyID  uint32
	Key    [32]byte

	Software string // name that the server logs; default syncgate-agent

	Interval     time.Duration // between two looks at the tables of rules that read on from their state
	FullInterval time.Duration // between two rounds of a rule that reads everything each time
	RulesEvery   time.Duration // between two checks of the local rules
	ReportEvery  time.Duration // between two reports to the centre while nothing changes
	DataDir      string        // directory whose free space is reported; empty: none is

	// Limits of the outbox. At a limit the agent reads only rules that have nothing in the outbox.
	BatchRows     int   // rows of one upload at most
	OutboxBatches int   // uploads that may wait
	OutboxBytes   int64 // bytes of them, also the most that one read may give
	DropOldest    bool  // at a limit, drop the oldest batches instead of reading no more

	MaxMessage   int  // bytes of the largest row or reply
	Uncompressed bool // nothing is packed on its way

	ReconnectMin time.Duration // first pause before connecting again, doubled each time
	ReconnectMax time.Duration // longest
	RetryMin     time.Duration // the same for a rule that fails
	RetryMax     time.Duration // longest

	Observer store.Observer   // of this agent and its store; default: nothing is counted
	Log      zerolog.Logger   // default: nothing is logged
	Clock    func() time.Time // default time.Now
	Rand     io.Reader        // default crypto/rand
}

// Limits are the options' defaults and bounds.
func (o *Options) Limits() []limit.Limit {
	const least, most = time.Millisecond, 24 * time.Hour
	return []limit.Limit{
		limit.Time("Interval", &o.Interval, time.Second, least, most),
		limit.Time("FullInterval", &o.FullInterval, time.Minute, least, most),
		limit.Time("RulesEvery", &o.RulesEvery, time.Second, least, most),
		limit.Time("ReportEvery", &o.ReportEvery, 30*time.Second, least, most),
		limit.Count("BatchRows", &o.BatchRows, 1000, 1, 200_000),
		limit.Count("OutboxBatches", &o.OutboxBatches, 10_000, 1, 1<<30),
		limit.Bytes("MaxMessage", &o.MaxMessage, protocol.DefaultMaxMessage, 1<<20, 512<<20),
		limit.Bytes("OutboxBytes", &o.OutboxBytes, 1<<30, 1, 1<<40),
		limit.Time("ReconnectMin", &o.ReconnectMin, 250*time.Millisecond, least, most),
		limit.Time("ReconnectMax", &o.ReconnectMax, time.Minute, least, most),
		limit.Time("RetryMin", &o.RetryMin, time.Second, least, most),
		limit.Time("RetryMax", &o.RetryMax, 5*time.Minute, least, most),
	}
}

const maxSoftware = 64 // bytes that a HELLO has room for

func (o *Options) setDefaults() error {
	switch {
	case o.Point == "" || len(o.Point) > 64:
		return errors.New("agent: Options.Point must have 1 to 64 bytes")
	}
	o.Software = cmp.Or(o.Software, "syncgate-agent")
	o.Software = strings.ToValidUTF8(o.Software[:min(len(o.Software), maxSoftware)], "")
	if o.Observer == nil {
		o.Observer = func(store.Event) {}
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	o.Rand = cmp.Or(o.Rand, rand.Reader)
	return limit.Fill("agent", o.Limits())
}

// env returns the values that a plan is bound to besides the row.
func (o *Options) env(state []rowset.StateItem) rule.Env {
	return rule.Env{State: state, Point: o.Point, Origin: rule.AnyPoint, Limit: o.BatchRows}
}

// Agent keeps one point in step with the centre. Run or Once may be called once.
type Agent struct {
	opts     Options
	lock     agentLock
	rules    *rules
	link     *link
	outbox   *outbox
	columns  columns
	progress progress
	tables   tableLocks
	active   active
	news     news
	runs     runs
	asked    signal // raised when the centre may ask for a comparison
	wake     signal // raised when a person wants every rule tried now
	only     string // the table of Sync
	used     atomic.Bool
	order    order
	started  time.Time
	counted  counted

	nextReport atomic.Int64  // when the next one is due, nanoseconds since 1970; 0: none is made
	pages      chan struct{} // holds a token for each download in flight
	once       bool          // Once is running: a loop ends when it has nothing more to do
}

// New checks the options. It starts nothing.
func New(o Options) (*Agent, error) {
	if o.Store == nil {
		return nil, errors.New("agent: Options.Store is nil")
	}
	if err := o.setDefaults(); err != nil {
		return nil, err
	}
	host, _ := os.Hostname() // for a person
	process := fmt.Sprintf("process %d on %s", os.Getpid(), host)
	a := &Agent{opts: o, lock: agentLock{db: o.Store, point: o.Point, process: process, wait: lockWait},
		asked: newSignal(), wake: newSignal(),
		started: o.Clock(), pages: make(chan struct{}, maxPages)}
	a.opts.Observer = func(e store.Event) {
		a.counted.add(e)
		o.Observer(e)
	}
	o.Store.Observe(a.opts.Observer)
	var err error
	if a.link, err = newLink(&a.opts, &a.news); err != nil {
		return nil, err
	}
	if a.rules, err = newRules(&a.opts); err != nil {
		return nil, err
	}
	a.progress = progress{opts: &a.opts, rules: a.rules, lines: make(map[ruleName]Line), news: newSignal(),
		moved: a.runs.moved}
	a.link.downloads, a.link.runRule = a.downloads, a.runRule
	a.outbox = &outbox{opts: &a.opts, lock: &a.lock, reading: make(chan struct{}, maxReading)}
	return a, nil
}

// open takes the agent lock and reads the rules and the outbox. The caller releases the lock, also after an error.
func (a *Agent) open(ctx context.Context) error {
	if a.used.Swap(true) {
		return errors.New("agent: Run and Once may be called once")
	}
	err := a.lock.take(ctx)
	if err == nil {
		err = a.rules.refresh(ctx)
	}
	if err == nil {
		err = a.outbox.open(ctx)
	}
	if err == nil {
		err = a.columns.open(ctx, a.opts.Store)
	}
	if err != nil {
		return fmt.Errorf("local database: %w", err)
	}
	a.outbox.depth(a.opts.Log.Info()).Str("point", a.opts.Point).
		Int("rules", len(a.rules.enabled())).Msg("agent starts")
	return nil
}

// fetched names the loop that fetches the centre's rules, and the state that holds their version.
var fetched = ruleName{"rules", "fetched"}

// Run keeps the point in step until ctx ends. It then joins every goroutine and returns nil. Run returns an error when
// it cannot begin: the local database does not answer, lacks its tables, or is in use by another agent (ErrTaken). Run
// logs later errors and goes on. Only a takeover by another agent ends it.
func (a *Agent) Run(ctx context.Context) error {
	defer a.lock.release()
	if err := a.open(ctx); ctx.Err() != nil {
		return nil
	} else if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { cancel(a.lock.keep(ctx)) })
	wg.Go(func() { _ = a.link.run(ctx, true) }) // like the loops it ends only with ctx
	wg.Go(func() { a.rules.local.Run(ctx) })
	wg.Go(func() { a.watchWake(ctx) })
	wg.Go(func() { _ = a.opts.Store.Run(ctx) }) // it returns nil
	wg.Go(func() { a.rules.fetched.Run(ctx) })
	wg.Go(func() { a.opts.Store.RetryWaiting(ctx, a.waitingPlan) })
	a.loop(fetched, a.link.rulesNews).start(ctx, &wg, a.refresh)
	a.loop(jobs, a.asked).start(ctx, &wg, a.resync)
	wg.Go(func() { a.watch(ctx, true) })
	wg.Go(func() { a.watch(ctx, false) })
	wg.Go(func() { a.reports(ctx) })
	a.supervise(ctx, &wg)
	wg.Wait()
	a.outbox.depth(a.opts.Log.Info()).Msg("agent stopped")
	if err := context.Cause(ctx); errors.Is(err, ErrTaken) {
		return err
	}
	return nil
}

// waitingPlan is the plan that applies a row which waits in sync_quarantine; nil when there is none now.
func (a *Agent) waitingPlan(q *store.QuarantinedRow) (*rule.Plan, rule.Env) {
	plan, _ := a.rules.plan(ruleName{rule.Download, q.Table}) // the loop of the rule reports why there is none
	if plan == nil {
		return nil, rule.Env{}
	}
	return plan, a.opts.env(nil)
}

// QuarantinePlan is the plan that applies a quarantined row by the rules in force now. It does not need the agent lock.
func (a *Agent) QuarantinePlan(ctx context.Context, q *store.QuarantinedRow) (*rule.Plan, rule.Env, error) {
	if err := a.rules.refresh(ctx); err != nil {
		return nil, rule.Env{}, err
	}
	plan, err := a.rules.plan(ruleName{rule.Download, q.Table})
	if plan == nil {
		err = cmp.Or(err, fmt.Errorf("no rule of this point downloads %s; "+
			"a row that could not be sent is still in its table", q.Table))
		return nil, rule.Env{}, err
	}
	return plan, a.opts.env(nil), err
}

// supervise starts the loops of each rule and of each table with batches in the outbox. It wakes the loops whose rule
// has changed and the loops that fail. It ends with ctx.
func (a *Agent) supervise(ctx context.Context, wg *sync.WaitGroup) {
	loops := make(map[ruleName][]*loop)
	plans := make(map[ruleName]*rule.Plan) // as the loops know them
	for {
		woken := a.wake.taken()
		for name := range a.wanted() {
			plan, _ := a.rules.plan(name) // the loops report why there is none
			if loops[name] == nil {
				loops[name] = a.start(ctx, wg, name)
			} else if plan != plans[name] || woken || a.progress.failed(name) {
				for _, l := range loops[name] {
					l.edited.raise()
				}
			}
			plans[name] = plan
		}
		a.link.resubscribe.raise()
		a.progress.news.raise()
		select {
		case <-ctx.Done():
			return
		case <-a.rules.changed:
		}
	}
}

// start starts the loops of a rule. They report to progress.
func (a *Agent) start(ctx context.Context, wg *sync.WaitGroup, name ruleName) []*loop {
	var loops []*loop
	var turns []turn
	switch name.direction {
	case rule.Download:
		l := a.loop(name, a.news.of(name))
		loops, turns = []*loop{l}, []turn{l.inOrder(l.download)}
	case rule.Upload:
		read, sent := newSignal(), newSignal()
		reader := &uploads{loop: a.loop(name, nil), read: read, sent: sent}
		sender := &uploads{loop: a.loop(name, read), sent: sent}
		loops, turns = []*loop{reader.loop, sender.loop}, []turn{reader.inOrder(reader.collect), sender.send}
		if a.once {
			loops, turns = loops[:1], []turn{reader.inOrder(reader.round)}
		}
	}
	a.runs.add(name, loops) // a rule without a direction is broken and has none
	for i, l := range loops {
		l.start(ctx, wg, turns[i])
	}
	return loops
}

// wanted returns the rules that need loops.
func (a *Agent) wanted() map[ruleName]bool {
	names := make(map[ruleName]bool)
	for name := range a.rules.enabled() {
		names[name] = true
	}
	for _, table := range a.outbox.leftover {
		names[ruleName{rule.Upload, table}] = true
	}
	maps.DeleteFunc(names, func(n ruleName, _ bool) bool { return a.only != "" && !strings.EqualFold(n.table, a.only) })
	return names
}

// Once makes one round. It fetches the centre's rules when they have changed, reads every upload rule to its end, sends
// the whole outbox, and downloads until nothing is left. The report lists the moved rows of each rule. The error joins
// the errors of the rules that did not finish. A server that cannot be reached ends the round at once, a busy server
// after a few tries.
func (a *Agent) Once(ctx context.Context) (Report, error) {
	defer a.lock.release()
	if err := a.open(ctx); err != nil {
		return nil, err
	}
	a.once = true
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { cancel(a.link.run(ctx, false)) })
	if a.loop(fetched, nil).run(ctx, a.refresh) == nil {
		_ = a.loop(jobs, nil).run(ctx, a.resync) // progress has the error
		var loops sync.WaitGroup
		for name := range a.wanted() {
			a.start(ctx, &loops, name)
		}
		loops.Wait()
		if _, err := a.opts.Store.RetryOnce(ctx, a.waitingPlan); err != nil && ctx.Err() == nil {
			a.opts.Log.Warn().Err(err).Msg("waiting rows of sync_quarantine could not be tried again")
		}
		if counts, err := a.opts.Store.CountQuarantine(ctx, store.QuarantineFilter{}); err == nil {
			a.progress.waited(counts)
		}
		_, _ = a.report(ctx)
	}
	a.rules.local.Flush(context.WithoutCancel(ctx))
	errs := []error{context.Cause(ctx)} // when ctx has ended, all rules have failed for this one reason
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

// Report returns the rows moved so far. It may be called at any time.
func (a *Agent) Report() Report { return a.progress.report() }
