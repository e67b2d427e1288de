package agent

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"syncgate/protocol"
	"syncgate/rule"
)

// The centre may ask for a rule to be run now. The rule's loops do that with a turn each that begins after the request:
// for an upload the one that reads and the one that sends.

// runs are the runs that were asked for and are not over.
type runs struct {
	mu    sync.Mutex
	loops map[ruleName][]*loop
	all   []*run
}

// run is one of them.
type run struct {
	name   ruleName
	left   []*loop // those whose turn it needs, in order
	begun  bool    // the turn of the first of left has begun
	before Line    // what had moved when it was asked for
	moved  signal
	done   chan error
}

const (
	maxRuns  = 16
	runLines = 200 * time.Millisecond // between two lines of a run
)

// add makes loops known that belong to a rule.
func (r *runs) add(name ruleName, loops []*loop) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.loops == nil {
		r.loops = map[ruleName][]*loop{}
	}
	r.loops[name] = loops
}

// ask begins a run. The error is a *Refusal when it cannot be.
func (a *Agent) ask(name ruleName) (*run, error) {
	plan, err := a.rules.plan(name)
	switch {
	case err != nil:
		return nil, &Refusal{protocol.StatusRuleBroken, protocol.ErrorReply{Message: err.Error()}}
	case plan == nil:
		return nil, &Refusal{protocol.StatusNoRule, protocol.ErrorReply{
			Message: fmt.Sprintf("no rule of this point that is switched on has the direction %q for table %q",
				name.direction, name.table)}}
	}
	x := &run{name: name, before: a.progress.line(name), moved: newSignal(), done: make(chan error, 1)}
	r := &a.runs
	r.mu.Lock()
	defer r.mu.Unlock()
	if x.left = r.loops[name]; len(x.left) == 0 || len(r.all) >= maxRuns {
		return nil, &Refusal{protocol.StatusBusy,
			protocol.ErrorReply{Message: "the agent begins to work, or does many such runs", RetryAfterMs: 1000}}
	}
	r.all = append(r.all, x)
	x.left[0].now.raise()
	return x, nil
}

// begin notes that a loop begins a turn.
func (r *runs) begin(l *loop) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.all {
		x.begun = x.begun || x.left[0] == l
	}
}

// end notes how a loop's turn has ended.
func (r *runs) end(l *loop, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = slices.DeleteFunc(r.all, func(x *run) bool {
		if !x.begun || x.left[0] != l {
			return false
		}
		x.begun = false
		switch {
		case isTurn(err): // the rule has not been run yet
		case err == nil && len(x.left) > 1:
			x.left = x.left[1:]
			x.left[0].now.raise()
		default:
			x.done <- err
			return true
		}
		return false
	})
}

// moved notes that rows of a rule have moved.
func (r *runs) moved(name ruleName) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, x := range r.all {
		if x.name == name {
			x.moved.raise()
		}
	}
}

// forget ends a run of which nobody wants to know any more.
func (r *runs) forget(x *run) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = slices.DeleteFunc(r.all, func(other *run) bool { return other == x })
}

// runRule answers a RUN: with a line when rows have moved, and with the outcome.
func (a *Agent) runRule(ctx context.Context, s *session, m *protocol.Message) {
	reply := func(flags uint8, err error, body any) {
		r := m.Reply(protocol.StatusOf(err), body)
		r.Flags = flags
		_ = s.send(r) // the connection is gone, and the centre knows
	}
	fail := func(err error) { reply(0, err, &protocol.ErrorReply{Message: err.Error()}) }
	request, err := m.RunRequest()
	if err != nil {
		fail(err)
		return
	}
	x, err := a.ask(ruleName{request.Type, request.Table})
	if err != nil {
		fail(err)
		return
	}
	defer a.runs.forget(x)
	for {
		select {
		case <-x.moved:
			reply(protocol.FlagMore, nil, a.lineOf(x))
			pause(ctx, runLines)
		case err := <-x.done:
			if err != nil {
				fail(err)
				return
			}
			line := a.lineOf(x)
			line.Text = "done: " + line.Text
			reply(0, nil, line)
			return
		case <-ctx.Done():
			return
		}
	}
}

// lineOf says what has moved since a run was asked for.
func (a *Agent) lineOf(x *run) *protocol.RunReply {
	now, was := a.progress.line(x.name), x.before
	r := &protocol.RunReply{Rows: uint64(now.Rows - was.Rows), Batches: uint64(now.Batches - was.Batches),
		Quarantined: uint64(now.Quarantined - was.Quarantined)}
	what := "%d rows acknowledged by the centre, in %d batches"
	if x.name.direction == rule.Download {
		what = "%d rows applied at the point, in %d pages"
	}
	r.Text = fmt.Sprintf(what, r.Rows, r.Batches)
	if r.Quarantined > 0 {
		r.Text += fmt.Sprintf("; %d rows are in sync_quarantine", r.Quarantined)
	}
	return r
}
