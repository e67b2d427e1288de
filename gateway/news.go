package gateway

import (
	"context"
	"slices"
	"sync"
	"time"

	"syncgate/business"
	"syncgate/internal/account"
	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/store"
)

// news tells subscribers which of the tables that they download have rows for them. Nothing is kept for a subscriber
// but a mark for each of its tables: it is told once, and then again only after it has asked for the table. What it
// asks for begins at its own state, so nothing is lost when it is told late, twice or not at all.
//
// The look at a table costs one to three queries, whatever the number of subscribers: at intervals, and at once when an
// upload to it was committed.
type news struct {
	g       *Gateway
	ending  sync.WaitGroup
	looking chan struct{} // holds a token for each look

	mu      sync.Mutex
	watches map[string]*watch
	own     map[string]map[*told]struct{} // by table, those whose rule has SQL of its own, at which nobody looks
	subs    map[*session]*subscription
	runs    map[runKey]*run
}

// watch is what News looks at for some plans.
type watch struct {
	name  string
	table string // as rules name it
	plan  *rule.Plan
	wake  chan struct{}
	end   context.CancelFunc
	told  map[*told]struct{}
}

// subscription is what one session is told.
type subscription struct {
	s      *session
	id     protocol.RequestID
	runs   bool
	tables map[string]*told
	rules  bool // other rules are in force
	queued bool // a reply is about to be sent

	payer *account.Holder // is charged for tables
	size  int64
}

// told is one table of a subscription.
type told struct {
	sub     *subscription
	table   string
	plan    *rule.Plan // nil: no rule is in force
	watch   *watch     // nil: no plan, or one whose news the store cannot tell
	pending bool
	asked   bool // the client has asked for the table since it was told
	at      time.Time
}

const (
	looksAtOnce = 4
	lookGap     = 20 * time.Millisecond // between two looks at a table
	// tellGap is for each subscriber of a table the time between two replies that name it, so that one table of many
	// points costs no more than 2,000 replies a second.
	tellGap = 500 * time.Microsecond
	// namesAtOnce keeps a reply below the smallest frame.
	namesAtOnce = 8
	toldSize    = 256 // bytes that a table of a subscription takes beside its name, about
)

func newNews(g *Gateway) *news {
	return &news{g: g, looking: make(chan struct{}, looksAtOnce), watches: map[string]*watch{}, own: map[string]map[*told]struct{}{},
		subs: map[*session]*subscription{}, runs: map[runKey]*run{}}
}

// run looks until ctx ends.
func (n *news) run(ctx context.Context) {
	<-ctx.Done()
	n.mu.Lock()
	for _, w := range n.watches {
		w.end()
	}
	n.mu.Unlock()
	n.ending.Wait()
}

// subscribe makes or replaces the subscription of a session, and sends the first replies.
func (n *news) subscribe(r *business.Request, s *session) {
	req, err := r.Message.SubscribeRequest()
	r.Message.Payload = nil
	if err != nil {
		r.Refuse(err)
		return
	}
	var size int64
	for _, table := range req.Tables {
		size += toldSize + int64(len(table))
	}
	if !r.Payer.Take(size) {
		n.g.noteShare(s.point, "a subscription was refused")
		r.Refuse(business.ErrBusy)
		return
	}
	n.mu.Lock()
	old := n.subs[s]
	sub := &subscription{s: s, id: r.Message.RequestID, runs: req.Runs, tables: map[string]*told{}, rules: true,
		queued: true, payer: r.Payer, size: size}
	for _, table := range req.Tables {
		if sub.tables[table] != nil {
			continue
		}
		t := &told{sub: sub, table: table, asked: true, pending: true}
		if old != nil && old.tables[table] != nil {
			t.pending, t.asked = old.tables[table].pending, old.tables[table].asked
		}
		sub.tables[table] = t
		if !s.left {
			n.attach(t)
		}
	}
	n.forget(old)
	if s.left {
		n.forget(sub)
	} else {
		n.subs[s] = sub
	}
	n.mu.Unlock()
	n.deliver(sub, true)
}

// leave ends the subscription of a session. It gets none any more.
func (n *news) leave(s *session) {
	n.mu.Lock()
	defer n.mu.Unlock()
	s.left = true
	for key, r := range n.runs {
		if key.s == s {
			close(r.answers)
			delete(n.runs, key)
		}
	}
	n.forget(n.subs[s])
	delete(n.subs, s)
}

// forget ends a subscription, and the watches that nobody needs any more. With mu held.
func (n *news) forget(sub *subscription) {
	if sub == nil {
		return
	}
	for _, t := range sub.tables {
		n.detach(t)
	}
	sub.payer.Add(-sub.size)
}

func (n *news) detach(t *told) {
	w := t.watch
	if w == nil {
		if delete(n.own[t.table], t); len(n.own[t.table]) == 0 {
			delete(n.own, t.table)
		}
		return
	}
	t.watch = nil
	if delete(w.told, t); len(w.told) == 0 {
		w.end()
		delete(n.watches, w.name)
	}
}

// attach finds the watch for a table of a subscription by the rule that is in force now. It reports whether that is
// another rule than before. With mu held.
func (n *news) attach(t *told) (changed bool) {
	var plan *rule.Plan
	if e, err := n.g.rules.Find(t.table, rule.Download, t.sub.s.point); err == nil {
		plan = e.Plan
	}
	if plan == t.plan {
		return false
	}
	n.detach(t)
	t.plan = plan
	if plan == nil {
		return true
	}
	name := store.NewsOf(plan)
	if name == "" {
		if n.own[t.table] == nil {
			n.own[t.table] = map[*told]struct{}{}
		}
		n.own[t.table][t] = struct{}{}
		return true
	}
	w := n.watches[name]
	if w == nil {
		w = &watch{name: name, table: t.table, plan: plan, wake: make(chan struct{}, 1), told: map[*told]struct{}{}}
		var ctx context.Context
		ctx, w.end = context.WithCancel(context.Background())
		n.watches[name] = w
		n.ending.Go(func() { n.look(ctx, w) })
	}
	w.told[t], t.watch = struct{}{}, w
	return true
}

// look looks at a table until ctx ends. The first look counts as news: what was committed before it, after a
// subscriber asked, is not seen otherwise.
func (n *news) look(ctx context.Context, w *watch) {
	var last store.News
	for {
		now, from, err := n.ask(ctx, w, last)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil: // the readers of the table log it
		case now.Mark != last.Mark:
			last = now
			n.tell(w, from)
		default:
			n.tell(w, nobody) // those who could not be told yet
		}
		gap, period := time.NewTimer(lookGap), time.NewTimer(n.g.o.Poll)
		select {
		case <-ctx.Done():
		case <-period.C:
		case <-w.wake:
			<-gap.C
		}
		period.Stop()
	}
}

// nobody is no point's name.
const nobody = "*"

func (n *news) ask(ctx context.Context, w *watch, last store.News) (now store.News, from string, err error) {
	select {
	case n.looking <- struct{}{}:
		defer func() { <-n.looking }()
	case <-ctx.Done():
		return now, "", ctx.Err()
	}
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	return n.g.o.Store.News(ctx, w.plan, last)
}

// tell marks the table for its subscribers, except for the point that it has the rows from.
func (n *news) tell(w *watch, from string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	gap := time.Duration(len(w.told)) * tellGap
	now := n.g.o.Clock()
	for t := range w.told {
		if from != nobody && t.sub.s.point != from {
			t.pending = true
		}
		if t.pending && t.asked && now.Sub(t.at) >= gap {
			n.queue(t.sub)
		}
	}
}

// uploaded looks at a table to which rows were uploaded.
func (n *news) uploaded(table, from string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range n.watches {
		if w.table == table && w.plan.Mark == nil { // what is read by time is read some time later
			select {
			case w.wake <- struct{}{}:
			default:
			}
		}
	}
	for t := range n.own[table] {
		if t.sub.s.point != from {
			t.pending = true
			n.queue(t.sub)
		}
	}
}

// downloading notes that a client asks for a table: what it has been told, it will have.
func (n *news) downloading(s *session, table string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if sub := n.subs[s]; sub != nil && sub.tables[table] != nil {
		sub.tables[table].pending, sub.tables[table].asked = false, true
	}
}

// rulesChanged tells every subscriber that other rules are in force, and those whose rule for a table is another one to
// ask for that table.
func (n *news) rulesChanged() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, sub := range n.subs {
		for _, t := range sub.tables {
			t.pending = n.attach(t) || t.pending
		}
		sub.rules = true
		n.queue(sub)
	}
}

// queue has a reply sent. With mu held.
func (n *news) queue(sub *subscription) {
	if !sub.queued {
		sub.queued = true
		n.g.replies.add(sub.s.point, func() { n.deliver(sub, false) })
	}
}

// deliver sends what a subscriber has not been told. first: it is the answer to a SUBSCRIBE.
func (n *news) deliver(sub *subscription, first bool) {
	var names, polled []string
	now := n.g.o.Clock()
	n.mu.Lock()
	sub.queued = false
	rules := sub.rules
	sub.rules = false
	for table, t := range sub.tables {
		if !t.pending || !t.asked {
			continue
		}
		t.pending, t.asked, t.at = false, false, now
		names = append(names, table)
		if t.watch == nil {
			polled = append(polled, table)
		}
	}
	n.mu.Unlock()
	slices.Sort(names)
	for rules || len(names) > 0 {
		part := names[:min(len(names), namesAtOnce)]
		names = names[len(part):]
		reply := &protocol.SubscribeReply{PingReply: *n.g.handler.Notice(), News: part}
		for _, table := range part {
			if slices.Contains(polled, table) {
				reply.Polled = append(reply.Polled, table)
			}
		}
		_ = sub.s.send(&protocol.Message{Op: protocol.OpSubscribe, Flags: protocol.FlagMore, RequestID: sub.id,
			Body: reply},
			first) // gone: no subscriber any more
		rules, first = false, false
	}
}
