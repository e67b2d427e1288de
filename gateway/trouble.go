package gateway

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"syncgate/store"
)

const (
	probeEvery   = time.Second
	probeTimeout = 3 * time.Second  // a database that takes longer for SELECT 1 does not answer
	troubleLasts = 10 * time.Second // after the last request that met it
	holdFor      = 10 * time.Second // what runs waits for a database that does not answer
	troubleAgain = 30 * time.Second // between two lines about the same trouble
	retriesEvery = time.Minute      // between two lines about transactions that ran again
)

// trouble knows what is wrong with the database: from a probe every second, and from the requests that failed by it.
type trouble struct {
	away atomic.Bool // the last probe had no answer

	mu                   sync.Mutex
	what                 string // as store.Trouble names it; "": nothing
	since, last          time.Time
	cause                error
	deadlocks, lockWaits uint64 // since the last line about them
}

// met records an error of a request.
func (t *trouble) met(err error, now time.Time) {
	what := store.Trouble(err)
	if what == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.what == "" {
		t.what, t.since, t.cause = what, now, err
	}
	t.last = now
}

// start is when the present trouble began.
func (t *trouble) start() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.since
}

// retried counts transactions that ran again after a deadlock or in place of waiting longer.
func (t *trouble) retried(cause string, n uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch cause {
	case "deadlock":
		t.deadlocks += n
	case "lock_wait":
		t.lockWaits += n
	}
}

// watchDatabase probes the database until ctx ends, and logs what is wrong with it, since when and what is held
// meanwhile, and that it works again.
func (g *Gateway) watchDatabase(ctx context.Context) {
	tick, retries := time.NewTicker(probeEvery), time.NewTicker(retriesEvery)
	defer tick.Stop()
	defer retries.Stop()
	g.readSizes(ctx)
	var told time.Time // of the last line
	for {
		select {
		case <-ctx.Done():
			return
		case <-retries.C:
			g.logRetries()
			g.readSizes(ctx)
			continue
		case <-tick.C:
		}
		began := g.o.Clock()
		err := g.probe(ctx)
		if ctx.Err() != nil {
			return
		}
		g.trouble.away.Store(err != nil)
		g.metrics.probed(err, g.o.Clock().Sub(began))
		if err != nil {
			g.trouble.met(err, began)
			if began.Sub(g.trouble.start()) > holdFor {
				g.pool.Interrupt()
			}
		}
		told = g.logTrouble(told, g.o.Clock())
	}
}

func (g *Gateway) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	return g.o.Store.Probe(ctx)
}

// logTrouble says that there is trouble, or that it is over. told is when it last said so; zero: there was none.
func (g *Gateway) logTrouble(told, now time.Time) time.Time {
	t := &g.trouble
	t.mu.Lock()
	what, since, cause := t.what, t.since, t.cause
	over := what != "" && !t.away.Load() && now.Sub(t.last) >= troubleLasts
	if over {
		t.what = ""
	}
	t.mu.Unlock()
	switch {
	case over && !told.IsZero():
		g.o.Logger.Info().Str("what", what).Time("since", since).Dur("ms", now.Sub(since)).Msg("database works again")
		fallthrough
	case over || what == "":
		return time.Time{}
	case now.Sub(told) < troubleAgain:
		return told
	}
	load := g.Stats()
	g.o.Logger.Warn().Str("what", what).Time("since", since).Err(cause).Int("requests_waiting", load.Waiting).
		Int("requests_running", load.Running).Int64("bytes_held", load.Buffered).
		Msg("database trouble; agents keep their rows and are told to come again")
	return now
}

// sizes are the rows of the tables of syncgate that grow.
type sizes struct {
	mu   sync.Mutex
	rows map[string]uint64
}

func (s *sizes) of(table string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rows[table]
}

func (g *Gateway) readSizes(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	rows, err := g.o.Store.TableRows(ctx)
	if err != nil {
		return // the next minute; the probe says what is wrong
	}
	g.sizes.mu.Lock()
	defer g.sizes.mu.Unlock()
	g.sizes.rows = rows
}

func (g *Gateway) logRetries() {
	t := &g.trouble
	t.mu.Lock()
	deadlocks, waits := t.deadlocks, t.lockWaits
	t.deadlocks, t.lockWaits = 0, 0
	t.mu.Unlock()
	if deadlocks+waits > 0 {
		g.o.Logger.Info().Uint64("deadlocks", deadlocks).Uint64("lock_waits", waits).
			Msg("transactions ran again in the last minute, because others held their rows")
	}
}
