package reactor

import (
	"math/bits"
	"time"
)

// tick counts time in steps of tickLength. It wraps after two years and is compared as the difference of two ticks. It
// starts two seconds before the wrap, so that a mistake which would show in two years shows in the tests.
// A deadline of 0 means none.
type tick uint32

const (
	tickLength = 16 * time.Millisecond
	firstTick  = ^tick(0) - tick(2*time.Second/tickLength)

	wheelSize   = 2048       // buckets: one turn of the wheel is 32.8 s
	coarseAfter = tick(1024) // deadlines further away than this (16.4 s) …
	coarseSteps = tick(64)   // … are rounded up to a second, so that thousands share one wake-up
)

// tickAt is the tick at a time since the reactor's start.
func tickAt(d time.Duration) tick { return firstTick + tick(d/tickLength) }

func (t tick) before(u tick) bool { return int32(t-u) < 0 }

// after is the tick at which d has certainly passed.
func (t tick) after(d time.Duration) tick {
	return (t + tick((d+tickLength-1)/tickLength) + 1).orFirst()
}

// orFirst avoids the one tick that would read as "none".
func (t tick) orFirst() tick {
	if t == 0 {
		return 1
	}
	return t
}

// wheel holds at most one entry a connection, under the earliest of its deadlines. Entries are lazy: a deadline moved
// into the future leaves the entry where it is, and when the entry falls due the connection is only filed again. A
// busy connection costs one refiling per deadline, an idle one nothing in between.
type wheel struct {
	now     tick                   // everything up to here has been taken out
	buckets [wheelSize]uint32      // slot of the first connection, 0 for none
	filled  [wheelSize / 64]uint64 // a bit for each bucket that is not empty
	table   *table                 // the loop's
}

// file puts c under at, or moves it there when its entry is later than that.
func (w *wheel) file(c *Conn, at tick) {
	if !w.now.before(at) {
		at = (w.now + 1).orFirst()
	} else if at-w.now > coarseAfter {
		at = ((at + coarseSteps - 1) &^ (coarseSteps - 1)).orFirst()
	}
	if c.filedAt != 0 {
		if !at.before(c.filedAt) {
			return
		}
		w.drop(c)
	}
	i, slot := at%wheelSize, uint32(c.id.slot())
	c.filedAt, c.later = at, w.buckets[i]
	if c.later != 0 {
		w.conn(c.later).sooner = slot
	}
	w.buckets[i] = slot
	w.filled[i/64] |= 1 << (i % 64)
}

// drop takes c out.
func (w *wheel) drop(c *Conn) {
	if c.filedAt == 0 {
		return
	}
	i := c.filedAt % wheelSize
	if c.later != 0 {
		w.conn(c.later).sooner = c.sooner
	}
	if c.sooner != 0 {
		w.conn(c.sooner).later = c.later
	} else if w.buckets[i] = c.later; c.later == 0 {
		w.filled[i/64] &^= 1 << (i % 64)
	}
	c.filedAt, c.sooner, c.later = 0, 0, 0
}

func (w *wheel) conn(slot uint32) *Conn { return w.table.conns[slot] }

// advance takes out every entry due at now or before and appends its connection to due.
func (w *wheel) advance(now tick, due []*Conn) []*Conn {
	steps := min(now-w.now, wheelSize)
	for t := now - steps + 1; steps > 0; t, steps = t+1, steps-1 {
		for slot := w.buckets[t%wheelSize]; slot != 0; {
			c := w.conn(slot)
			slot = c.later
			if !now.before(c.filedAt) {
				w.drop(c)
				due = append(due, c)
			}
		}
	}
	w.now = now
	return due
}

// wait is how many ticks there are until the next filled bucket; ok is false when all are empty.
func (w *wheel) wait() (ticks tick, ok bool) {
	start := (w.now + 1) % wheelSize
	for i := tick(0); i <= wheelSize/64; i++ {
		word := (start/64 + i) % (wheelSize / 64)
		set := w.filled[word]
		switch i {
		case 0:
			set &= ^uint64(0) << (start % 64)
		case wheelSize / 64:
			set &= 1<<(start%64) - 1
		}
		if set != 0 {
			bucket := word*64 + tick(bits.TrailingZeros64(set))
			return (bucket-start)%wheelSize + 1, true
		}
	}
	return 0, false
}
