package logging

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A log that nobody reads costs lines, not time, and the reader that comes back is told how many.
func TestWriterNeverWaits(t *testing.T) {
	from, to := io.Pipe()
	w := NewWriter(to)
	line := []byte(strings.Repeat("x", 1023) + "\n")
	const sent = 3 * maxBytes / 1024
	for range sent {
		w.Write(line)
	}
	lost := int(w.Dropped())
	if lost == 0 {
		t.Fatal("three times as much as there is room for was kept")
	}
	read := make(chan string)
	go func() {
		b, _ := io.ReadAll(from)
		read <- string(b)
	}()
	for empty := false; !empty; time.Sleep(time.Millisecond) {
		w.mu.Lock()
		empty = w.size == 0
		w.mu.Unlock()
	}
	w.Write([]byte("last\n"))
	w.Close(time.Minute)
	to.Close()
	got := <-read
	if n := strings.Count(got, string(line)); n+lost != sent {
		t.Errorf("%d lines came, %d were counted as lost, %d were written", n, lost, sent)
	}
	if !strings.HasSuffix(got, "last\n") || !strings.Contains(got, fmt.Sprintf("%d lines are lost", lost)) {
		t.Errorf("the end is %.200q", got[max(0, len(got)-200):])
	}
}

func TestWriterClosesWithoutAReader(t *testing.T) {
	from, to := io.Pipe()
	w := NewWriter(to)
	w.Write([]byte("x\n"))
	w.Close(time.Millisecond)
	from.Close()
	<-w.done
}

func TestLimiter(t *testing.T) {
	now := time.Unix(1e9, 0)
	l := &Limiter{Burst: 2, Period: time.Minute, Clock: func() time.Time { return now }}
	count := func(key string, n int) (passed, heldBack int) {
		for range n {
			if ok, held := l.Allow(key); ok {
				passed, heldBack = passed+1, heldBack+held
			}
		}
		return
	}
	if p, h := count("a", 10); p != 2 || h != 0 {
		t.Errorf("%d lines of 10, %d held back", p, h)
	}
	if p, _ := count("b", 1); p != 1 {
		t.Error("one key holds back another")
	}
	now = now.Add(time.Minute)
	if p, h := count("a", 1); p != 1 || h != 8 {
		t.Errorf("%d lines, %d held back, want 1 and 8", p, h)
	}
	for i := range 3 * maxKeys {
		count(fmt.Sprint(i), 1)
	}
	if len(l.keys) > maxKeys+1 {
		t.Errorf("%d keys", len(l.keys))
	}
}
