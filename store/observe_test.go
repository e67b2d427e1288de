package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"syncgate/rule"
)

// counted collects the events of a store as "metric label n".
type counted struct {
	mu     sync.Mutex
	events map[string]uint64
	errs   []error
}

func (c *counted) observe(e Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.events == nil {
		c.events = map[string]uint64{}
	}
	c.events[e.Metric.Name+" "+e.Label] += e.N
	if e.Err != nil {
		c.errs = append(c.errs, e.Err)
	}
}

// take returns the events since the last call, in order.
func (c *counted) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for name, n := range c.events {
		all = append(all, fmt.Sprint(name, " ", n))
	}
	c.events = nil
	slices.Sort(all)
	return all
}

func TestMetrics(t *testing.T) {
	s := open(t)
	exec(t, s, phishing)
	var c counted
	s.Observe(c.observe)
	want := func(events ...string) {
		t.Helper()
		if got := c.take(); !slices.Equal(got, events) {
			t.Errorf("got %q, want %q", got, events)
		}
	}
	p := phishingPlan(t, s, insertSQL+updateSQL)
	good := upload(p, "p1", 1, []any{"a", "1", int64(1)}, []any{"a", "2", int64(2)})
	applied(t, s, good)
	want("ledger_rows_total inserted 1", "rows_applied_total insert 1", "rows_applied_total update 1")

	applied(t, s, good)
	want("ledger_rows_total found 1")

	bad := upload(p, "p1", 2, []any{"b", nil, int64(1)})
	other := upload(p, "p2", 1, []any{"c", "1", int64(1)})
	other.Confirmed = 1
	if o := s.Apply(testContext(t), []*Upload{bad, other}); errors.Join(o[0].Err, o[1].Err) != nil {
		t.Fatal(o)
	}
	want("ledger_rows_total inserted 2", "rows_applied_total insert 1", "rows_quarantined_total 1048 1",
		"transaction_retries_total shared 1")

	if err := s.purgeConfirmed(testContext(t)); err != nil {
		t.Fatal(err)
	}
	want("ledger_rows_total purged 1")

	tx, err := s.Begin(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Apply(testContext(t), p, good.Rows, rule.Env{}); err != nil {
		t.Fatal(err)
	}
	want() // nothing is committed
	if err := tx.Commit(testContext(t)); err != nil {
		t.Fatal(err)
	}
	want("rows_applied_total update 2")
}

// A purge that fails is counted with its error, and the next one does what it left.
func TestPurgeFailureIsCounted(t *testing.T) {
	s := open(t)
	exec(t, s, phishing)
	p := phishingPlan(t, s, insertSQL)
	for seq := uint64(1); seq <= 2; seq++ {
		u := upload(p, "p1", seq, []any{fmt.Sprint(seq), "1", int64(1)})
		u.Confirmed = seq - 1
		applied(t, s, u)
	}
	exec(t, s, "RENAME TABLE sync_request_floor TO away")
	s.purgeEvery = 5 * time.Millisecond
	failed, purged := make(chan error), make(chan uint64)
	ctx, stop := context.WithCancel(testContext(t))
	defer stop()
	s.Observe(func(e Event) {
		select {
		case <-ctx.Done():
		default:
			if e.Metric == purgeFailures {
				failed <- e.Err
			} else {
				purged <- e.N
			}
		}
	})
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	var refused *SQLError
	if err := <-failed; !errors.As(err, &refused) || refused.Code != 1146 {
		t.Errorf("got %v", err)
	}
	exec(t, s, "RENAME TABLE away TO sync_request_floor")
	for n := uint64(0); n != 1; {
		select {
		case <-failed:
		case n = <-purged:
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
