package reactor

import (
	"math/rand/v2"
	"testing"
	"time"
)

// The wheel against a list of deadlines: nothing comes out early, nothing late, nothing is lost; across the wrap.
func TestWheelAgainstModel(t *testing.T) {
	for seed := range uint64(scaled(50, 2000)) {
		rng := rand.New(rand.NewPCG(seed, 1))
		slots := make([]*Conn, 60)
		for i := 1; i < len(slots); i++ {
			slots[i] = &Conn{id: makeConnID(0, i, 1)}
		}
		w := &wheel{now: -tick(rng.IntN(5000)), table: &table{conns: slots}}
		wanted := map[*Conn]tick{} // the earliest deadline filed
		for range 400 {
			c := slots[1+rng.IntN(len(slots)-1)]
			switch rng.IntN(4) {
			case 0, 1:
				at := w.now + tick(rng.IntN(1+rng.IntN(6000)))
				w.file(c, at.orFirst())
				if old, ok := wanted[c]; !ok || at.before(old) {
					wanted[c] = at
				}
			case 2:
				w.drop(c)
				delete(wanted, c)
			case 3:
				step := tick(rng.IntN(1 + rng.IntN(4000)))
				if ticks, ok := w.wait(); ok != (len(wanted) > 0) || ok && (ticks == 0 || ticks > wheelSize) {
					t.Fatalf("seed %d: wait says %d, %v with %d filed", seed, ticks, ok, len(wanted))
				}
				now := w.now + step
				for _, c := range w.advance(now, nil) {
					at, ok := wanted[c]
					if !ok || now.before(at) {
						t.Fatalf("seed %d: came out %d early, filed %v", seed, at-now, ok)
					}
					delete(wanted, c)
				}
				for _, at := range wanted {
					if (at + coarseSteps + 1).before(now) {
						t.Fatalf("seed %d: still in %d after", seed, now-at)
					}
				}
			}
		}
	}
}

// wait must never pass over an entry: stepping only as far as wait says, everything comes out when it is due.
func TestWheelWaitReachesEveryEntry(t *testing.T) {
	slots := []*Conn{nil, {id: makeConnID(0, 1, 1)}}
	for _, distance := range []tick{1, 2, 63, 64, 65, 1000, wheelSize - 1, wheelSize, wheelSize + 1, 5000} {
		w := &wheel{now: ^tick(0) - 700, table: &table{conns: slots}}
		start := w.now
		w.file(slots[1], (start + distance).orFirst())
		for steps := 0; ; steps++ {
			ticks, ok := w.wait()
			if !ok || steps > 10 {
				t.Fatalf("distance %d: lost after %d steps", distance, steps)
			}
			if len(w.advance(w.now+ticks, nil)) == 1 {
				break
			}
		}
		if late := w.now - start - distance; late > coarseSteps+1 {
			t.Errorf("distance %d: %d ticks late", distance, late)
		}
	}
}

func TestTicks(t *testing.T) {
	for _, d := range []time.Duration{0, 1, tickLength - 1, tickLength, 5 * time.Second} {
		for _, now := range []time.Duration{0, tickLength - 1, 20 * time.Second, time.Hour} {
			at := tickAt(now).after(d)
			if early := now + d; tickAt(early).before(at) == false && early%tickLength != 0 && tickAt(early) != at {
				t.Errorf("%v after %v: tick %d has begun before", d, now, at)
			}
			if tickAt(now + d + 2*tickLength).before(at) {
				t.Errorf("%v after %v: more than two ticks late", d, now)
			}
		}
	}
}

func TestPool(t *testing.T) {
	p := &pool{}
	for _, n := range []int{1, 1024, 1025, 4096, 65536, keptBuffer, keptBuffer + 1, 40 << 20} {
		b := p.get(n)
		if len(b.room) < n || len(b.room) != b.size || n > smallestBuffer && n < 32<<20 && len(b.room) >= 2*n {
			t.Errorf("%d bytes for %d", len(b.room), n)
		}
		p.put(b)
		if again := p.get(n); (again == b) != (n <= keptBuffer) {
			t.Errorf("a buffer for %d: kept is %v", n, again == b)
		}
	}
	kept := &pool{}
	for range 3 * keptBuffers / keptBuffer {
		kept.put(&chunk{room: make([]byte, keptBuffer)})
	}
	if kept.kept > keptBuffers {
		t.Errorf("%d bytes kept", kept.kept)
	}
}

// BenchmarkDeadline measures a look at a connection's deadlines after a turn, with an entry that is early enough (as in
// nearly every turn), and the move of an entry.
func BenchmarkDeadline(b *testing.B) {
	l := &EventLoop{opts: &Options{IdleTimeout: 90 * time.Second}, tick: 1}
	l.wheel = wheel{now: 1, table: &table{conns: make([]*Conn, 8001)}}
	for i := 1; i <= 8000; i++ {
		c := &Conn{id: makeConnID(0, i, 1), from: &source{&listener{}, l}, heardAt: 1}
		l.wheel.table.conns[i] = c
		l.wheel.file(c, l.nextDeadline(c))
	}
	conn := func(i int) *Conn { return l.wheel.table.conns[1+i%8000] }
	b.Run("look", func(b *testing.B) {
		for i := range b.N {
			c := conn(i)
			l.wheel.file(c, l.nextDeadline(c))
		}
	})
	b.Run("move", func(b *testing.B) {
		for i := range b.N {
			c := conn(i)
			l.wheel.drop(c)
			l.wheel.file(c, tick(i%1000))
		}
	})
}
