package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"syncgate/rule"
)

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
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { cancel(a.link.run(ctx, false)) })
	err := a.round(ctx)
	if ctx.Err() != nil {
		err = context.Cause(ctx) // all the rules have failed for this one reason
	}
	cancel(nil)
	wg.Wait()
	return a.Report(), err
}

// round is Once while the link runs.
func (a *Agent) round(ctx context.Context) error {
	if err := a.firstRules(ctx); err != nil {
		return err
	}
	r := &round{agent: a}
	for name, err := range a.book.broken() {
		r.fail(name, err)
	}
	var wg sync.WaitGroup
	for name := range a.wanted() {
		wg.Go(func() {
			if name.direction == rule.Upload {
				r.upload(ctx, name)
			} else if err := newDownloader(a, name.table).once(ctx); err != nil {
				r.fail(name, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(r.errs...)
}

// firstRules waits for a connection and the rules in force there.
func (a *Agent) firstRules(ctx context.Context) error {
	select {
	case <-a.rulesNotice:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	wait := a.opts.retry()
	trouble := a.trouble("rules", "*")
	for {
		err := a.refresh(ctx)
		if err == nil || ctx.Err() != nil || !passing(err) || wait.tries > onceTries {
			return err
		}
		if !pause(ctx, lanePause(err, &wait, &trouble), nil) {
			return context.Cause(ctx)
		}
	}
}

// round is what the rules of one Once share.
type round struct {
	agent *Agent

	mu   sync.Mutex
	errs []error
}

// fail notes why a rule did not come to its end.
func (r *round) fail(name ruleName, err error) {
	r.agent.tally.fail(name, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, fmt.Errorf("%s %s: %w", name.direction, name.table, err))
}

// upload reads one table and sends it at the same time. When the lane gives up, reading
// ends, too.
func (r *round) upload(ctx context.Context, name ruleName) {
	reading, stop := context.WithCancel(ctx)
	defer stop()
	collected := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(collected)
		plan, _ := r.agent.book.find(rule.Upload, name.table)
		if plan == nil {
			return // only what is left in the outbox
		}
		if err := newCollector(r.agent).once(reading, plan); err != nil && reading.Err() == nil {
			r.fail(name, err)
		}
	})
	if err := newUploader(r.agent, name.table).once(ctx, collected); err != nil {
		r.fail(name, err)
	}
	r.agent.outbox.leave(name.table)
	stop()
	wg.Wait()
}
