package protocol

import (
	"net/netip"
	"testing"
	"time"
)

// Clients that are refused at one instant are told to come one after the other, and no later than after a minute.
func TestLimiterSpreadsWaits(t *testing.T) {
	l, now := newLimiter(100), time.Unix(1e9, 0)
	for range 20 { // a point's burst
		if d := l.authentic("p", now); d > 0 {
			t.Fatalf("refused for %v inside the burst", d)
		}
	}
	for i := 1; i <= 1000; i++ {
		want := min(time.Duration(i)*100*time.Millisecond, time.Minute) // a point may use a tenth
		if d := l.authentic("p", now); (d - want).Abs() > time.Millisecond {
			t.Fatalf("the client refused as number %d waits %v, want %v", i, d, want)
		}
	}
	if d := l.authentic("q", now); d > 0 {
		t.Errorf("another point waits %v", d)
	}
	if d := l.authentic("p", now.Add(time.Second)); d > 0 {
		t.Errorf("a token that is there is refused for %v", d)
	}
}

// Hellos that do not open cost their sources' share only.
func TestLimiterStrangersCostNoPoint(t *testing.T) {
	l, now := newLimiter(100), time.Unix(1e9, 0)
	refused := 0
	for i := range 10_000 {
		if l.source(netip.AddrFrom4([4]byte{10, 0, 0, byte(i % 40)}), now) > 0 {
			refused++
		}
	}
	if refused == 0 {
		t.Error("no hello was refused")
	}
	if d := l.authentic("p", now); d > 0 {
		t.Errorf("a point waits %v for strangers", d)
	}
}
