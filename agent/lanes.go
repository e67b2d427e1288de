package agent

import (
	"context"
	"sync"

	"syncgate/rule"
)

// lanes runs one goroutine for each table and direction that has a rule or batches, and
// joins them when ctx ends.
func (a *Agent) lanes(ctx context.Context) error {
	running := make(map[ruleName]signal)
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		for n := range a.wanted() {
			if running[n] != nil {
				continue
			}
			if n.direction == rule.Upload {
				u := newUploader(a, n.table)
				running[n] = u.retry
				wg.Go(func() { _ = u.run(ctx) }) // ends with ctx only
			} else {
				d := newDownloader(a, n.table)
				running[n] = d.retry
				wg.Go(func() { _ = d.run(ctx) }) // as above
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-a.outbox.newTable:
		case <-a.book.lanes:
			for _, retry := range running {
				retry.raise()
			}
		}
	}
}

// wanted is the set of lanes there should be.
func (a *Agent) wanted() map[ruleName]bool {
	names := make(map[ruleName]bool)
	for _, table := range a.outbox.tables() {
		names[ruleName{rule.Upload, table}] = true
	}
	for _, direction := range []string{rule.Upload, rule.Download} {
		for _, p := range a.book.plans(direction) {
			names[ruleName{direction, p.Row.Table}] = true
		}
	}
	return names
}
