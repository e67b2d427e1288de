package protocol

import (
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestLegacyMemory(t *testing.T) {
	now := testEpoch
	m := newLegacyMemory(time.Minute, 3)
	admit := func(n byte, at time.Time, repeat bool) error {
		return m.admit([16]byte{n}, [16]byte{1}, at, now, repeat)
	}
	for n := byte(1); n <= 3; n++ {
		if err := admit(n, now, false); err != nil {
			t.Fatal(err)
		}
	}
	if err := admit(4, now, false); !errors.Is(err, errLegacyFull) {
		t.Errorf("a fourth of three: %v", err)
	}
	if err := admit(1, now, false); !errors.Is(err, errLegacyReplay) {
		t.Errorf("again: %v", err)
	}
	for range legacyRetries {
		if err := admit(2, now, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := admit(2, now, true); !errors.Is(err, errLegacyReplay) {
		t.Errorf("too many retries: %v", err)
	}
	then := now
	// A token must be remembered while its time is in the window, also when it was ahead of the server's clock.
	for now = now.Add(time.Second); now.Sub(then) <= time.Minute; now = now.Add(time.Second) {
		if err := admit(1, then, false); !errors.Is(err, errLegacyReplay) {
			t.Fatalf("after %v: %v", now.Sub(then), err)
		}
	}
	now = then.Add(3 * time.Minute)
	if err := admit(9, now, false); err != nil || len(m.tokens) != 1 {
		t.Errorf("%v; %d tokens", err, len(m.tokens))
	}
}

// TestLegacyReplayEverywhere replays tokens at every time within the window: all are refused.
func TestLegacyReplayEverywhere(t *testing.T) {
	const window = 10 * time.Second
	for ahead := -window; ahead <= window; ahead += 500 * time.Millisecond {
		m := newLegacyMemory(window, 100)
		at := testEpoch.Add(ahead)
		if err := m.admit([16]byte{1}, [16]byte{}, at, testEpoch, false); err != nil {
			t.Fatal(err)
		}
		for now := testEpoch; now.Sub(at) <= window; now = now.Add(250 * time.Millisecond) {
			if err := m.admit([16]byte{1}, [16]byte{}, at, now, false); !errors.Is(err, errLegacyReplay) {
				t.Fatalf("token %v ahead, replayed %v later: %v", ahead, now.Sub(testEpoch), err)
			}
		}
	}
}

func TestLegacyFull(t *testing.T) {
	b := newLegacyBench(t, nil)
	b.memory.max = 1
	s := b.session()
	b.receive(s, legacyAsk("point-01", "UPLOAD_DB", "t", "[(1,)]", b.now))
	e, err := b.session().Receive(b.packet(legacyAsk("point-01", "UPLOAD_DB", "t", "[(2,)]", b.now)))
	if err != nil || e.Message != nil || e.Reject != nil ||
		!strings.Contains(b.text(e.Reply), "'Server_DB_Error', 'Error_Info': 'SG0002") {
		t.Errorf("%+v, %v", e, err)
	}
}

// TestLegacyReceiveMemory bounds the memory that the server allocates for a packet, with the most expensive contents.
func TestLegacyReceiveMemory(t *testing.T) {
	wide := "(" + strings.Repeat("0,", maxColumns) + ")," // a first row that is longer than the others
	for _, unit := range []string{"0,", "(),", "(0,),", "{},", "[0],", "('',),", "datetime.date(1,1,1),", "(1L,2L),",
		wide + "(),"} {
		unit, first := strings.CutPrefix(unit, wide)
		content := "[" + strings.Repeat(unit, 1<<17/len(unit)) + "]"
		if first {
			content = "[" + wide + content[1:]
		}
		b := newLegacyBench(t, nil)
		packet := b.packet(legacyAsk("point-01", "UPLOAD_DB", "t", content, b.now))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := b.session().Receive(packet)
		runtime.ReadMemStats(&after)
		if err != nil {
			t.Error(err)
		}
		if times := float64(after.TotalAlloc-before.TotalAlloc) / float64(len(packet)); times > 24 {
			t.Errorf("%s: %.1f bytes a byte of the packet", unit, times)
		} else {
			t.Logf("%-24s %.1f bytes a byte of the packet", unit, times)
		}
	}
}
