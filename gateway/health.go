package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// staleAfter is how many times Options.Poll rules or keys may be old before the gateway is not ready.
const staleAfter = 10

// controlTimeout is the deadline of a query for the points' keys: a connection that has gone silent must not keep a
// revocation from having effect.
const controlTimeout = 10 * time.Second

// CheckLive returns an error while an event loop makes no progress, which only a restart can mend. It does not ask the
// database.
func (g *Gateway) CheckLive() error {
	if loop := g.stuckLoop.Load(); loop > 0 {
		return fmt.Errorf("event loop %d makes no progress", loop-1)
	}
	return nil
}

// CheckReady returns why the gateway should get no work now: it drains, the database is not reachable, or the rules or
// the keys could not be read for some time. The error says which.
func (g *Gateway) CheckReady(ctx context.Context) error {
	if g.draining.Load() {
		return errors.New("draining")
	}
	rules, keys := g.rules.LastRead(), time.Unix(0, g.keysRead.Load())
	if _, err := g.o.Store.RulesVersion(ctx); err != nil {
		since := rules
		if keys.After(since) {
			since = keys
		}
		return fmt.Errorf("database not reachable since %s: %w", since.UTC().Format(time.RFC3339), err)
	}
	oldest := g.o.Clock().Add(-staleAfter * g.o.Poll)
	switch {
	case rules.Before(oldest):
		return fmt.Errorf("rules not read since %s", rules.UTC().Format(time.RFC3339))
	case keys.Before(oldest):
		return fmt.Errorf("keys not read since %s", keys.UTC().Format(time.RFC3339))
	}
	return nil
}
