package gateway

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"syncgate/crypto"
	"syncgate/store"
)

// points holds the points that may connect, and the sessions that are not saved yet.
type points struct {
	store   *store.Store
	master  *crypto.MasterKey
	legacy  bool // the v1 wire is served, so that its rows matter
	logger  zerolog.Logger
	keys    atomic.Pointer[map[keyName]openedKey] // those in the database
	allowed atomic.Pointer[map[string]bool]       // points that may speak the v1 wire; true: even after the v2 wire

	mu      sync.Mutex
	modern  map[string]bool   // spoke the v2 wire since the start
	unsaved map[connected]use // sessions that are not saved yet
}

type keyName struct {
	point string
	id    uint32
}

type openedKey struct {
	wrapped string
	key     crypto.Key
	bad     bool // the master key does not open it
}

type connected struct {
	point string
	wire  store.Wire
}

type use struct {
	keyID uint32
	at    time.Time
}

func newPoints(s *store.Store, master *crypto.MasterKey, legacy bool, logger zerolog.Logger) *points {
	p := &points{store: s, master: master, legacy: legacy, logger: logger,
		modern: map[string]bool{}, unsaved: map[connected]use{}}
	p.keys.Store(&map[keyName]openedKey{})
	p.allowed.Store(&map[string]bool{})
	return p
}

// refresh reads keys and points. lost reports that a key or point may have become invalid.
func (p *points) refresh(ctx context.Context) (lost bool, err error) {
	wrapped, err := p.store.Keys(ctx)
	if err != nil {
		return false, err
	}
	before, opened := *p.keys.Load(), make(map[keyName]openedKey, len(wrapped))
	for _, w := range wrapped {
		name := keyName{w.Point, w.ID}
		k, known := before[name]
		if !known || k.wrapped != string(w.Wrapped) {
			last := k.key
			k = openedKey{wrapped: string(w.Wrapped)}
			if k.key, err = p.master.Unwrap(w.Point, w.ID, w.Wrapped); err != nil && last.Point != "" {
				k.key = last // sealed under another master key meanwhile: a key never changes under its id
			} else if err != nil {
				k.bad = true
				p.logger.Error().Err(err).Str("point", w.Point).Uint32("key_id", w.ID).Msg("a key cannot be used")
			}
		}
		opened[name] = k
	}
	for name, k := range before {
		lost = lost || opened[name] != k
	}
	p.keys.Store(&opened)
	if !p.legacy {
		return lost, nil
	}
	all, err := p.store.Points(ctx)
	if err != nil {
		return lost, err
	}
	allowed := make(map[string]bool, len(all))
	for _, point := range all {
		if point.RevokedAt.IsZero() && (point.AllowLegacy || point.ModernSeenAt.IsZero()) {
			allowed[point.Point] = point.AllowLegacy
		}
	}
	lost = lost || !maps.Equal(allowed, *p.allowed.Load())
	p.allowed.Store(&allowed)
	return lost, nil
}

// key returns the point's live key of that id. It neither locks nor allocates.
func (p *points) key(point string, id uint32) (crypto.Key, bool) {
	k, ok := (*p.keys.Load())[keyName{point, id}]
	return k.key, ok && !k.bad
}

// BadKeys are the points with a key that the master key does not open.
func (g *Gateway) BadKeys() (points []string) {
	for name, k := range *g.points.keys.Load() {
		if k.bad {
			points = append(points, name.point)
		}
	}
	slices.Sort(points)
	return points
}

// legacyAllowed tells whether the point may speak the v1 wire: it is enrolled, and has never spoken the v2
// wire, or its row allows both.
func (p *points) legacyAllowed(point string) bool {
	both, ok := (*p.allowed.Load())[point]
	if both || !ok {
		return both
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.modern[point]
}

// noteSession records that a point is connected.
func (p *points) noteSession(point string, keyID uint32, wire store.Wire, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unsaved[connected{point, wire}] = use{keyID, at}
	if wire == store.Modern {
		p.modern[point] = true
	}
}

// flush saves at most so many of the recorded sessions. It keeps the others for its next call.
func (p *points) flush(ctx context.Context, most int) (err error) {
	p.mu.Lock()
	pending := p.unsaved
	p.unsaved = map[connected]use{}
	p.mu.Unlock()
	var batch []store.PointUse
	for t, u := range pending {
		if most--; most < 0 {
			break
		}
		batch = append(batch, store.PointUse{Point: t.point, KeyID: u.keyID, Wire: t.wire, At: u.at})
	}
	if len(batch) > 0 {
		if err = p.store.TouchPoints(ctx, batch...); err != nil {
			err = fmt.Errorf("write down who is connected: %w", err)
		} else {
			for _, u := range batch {
				delete(pending, connected{u.Point, u.Wire})
			}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.Copy(pending, p.unsaved)
	p.unsaved = pending
	return err
}
