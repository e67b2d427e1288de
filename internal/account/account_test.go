package account

import (
	"fmt"
	"sync"
	"testing"
)

const mib = 1 << 20

// fill takes n bytes at a time until h is refused, and returns what it holds.
func fill(h *Holder, n int64) int64 {
	for h.Take(n) {
	}
	return h.Held()
}

func TestGreedyLeaveRoom(t *testing.T) {
	l := New(256 * mib)
	small := l.Point("small")
	for i := range 4 {
		if got := fill(l.Point(fmt.Sprint("greedy ", i)), mib); i == 0 && got > 129*mib {
			t.Errorf("one holder got %d MiB of 256", got/mib)
		}
		if !small.MayTake(16 * mib) {
			t.Fatalf("%d greedy holders leave no room for a frame of another", i+1)
		}
	}
	for i := range 1000 {
		fill(l.Point(fmt.Sprint("more ", i)), mib)
	}
	if used := l.Used(); used > 256*mib {
		t.Errorf("%d MiB of 256 are held", used/mib)
	}
	if !small.Take(Floor) {
		t.Error("a holder with nothing gets nothing")
	}
}

func TestStrangersSpendTheirOwn(t *testing.T) {
	l := New(256 * mib)
	if got := fill(l.Stranger("192.0.2.1"), 512); got > StrangerShare {
		t.Errorf("one address got %d bytes", got)
	}
	for i := range 10_000 {
		fill(l.Stranger(fmt.Sprint(i)), 512)
	}
	if used := l.Used(); used > 16*mib {
		t.Errorf("strangers got %d MiB", used/mib)
	}
	if !l.Point("p").Take(100 * mib) {
		t.Error("strangers took a point's share")
	}
}

func TestForgetsHolders(t *testing.T) {
	l := New(mib)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 1000 {
				h := l.Point(fmt.Sprint(i % 3))
				h.Add(10)
				if i%2 == 0 {
					h.Add(-10)
					h.Close()
				} else {
					h.Close()
					h.Add(-10)
				}
			}
		})
	}
	all.Wait()
	if len(l.holders) != 0 || l.Used() != 0 {
		t.Errorf("%d holders with %d bytes are left", len(l.holders), l.Used())
	}
	a, b := l.Point("a"), l.Point("b")
	a.Add(1)
	b.Add(2)
	if top := l.Largest(1); len(top) != 1 || top[0] != (Use{"b", 2}) {
		t.Errorf("the largest is %v", top)
	}
}
