package admin

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

func texts(lines [][]byte) []string {
	var s []string
	for _, l := range lines {
		s = append(s, string(l))
	}
	return s
}

// Law: whatever is written, the last lines are those written last, in order.
func TestLogKeepsTheLast(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 7).Draw(t, "size")
		lines := rapid.SliceOf(rapid.StringMatching(`[a-z]{0,5}`)).Draw(t, "lines")
		n := rapid.IntRange(0, 9).Draw(t, "n")
		l := NewLog(size)
		for _, line := range lines {
			if _, err := l.Write([]byte(line + "\n")); err != nil {
				t.Fatal(err)
			}
		}
		want := lines[max(0, len(lines)-min(n, size)):]
		if got := texts(l.Last(n)); !slices.Equal(got, want) {
			t.Fatalf("Last(%d) of %d lines in a ring of %d = %q, want %q", n, len(lines), size, got, want)
		}
	})
}

func TestLogIsBoundedAndCopies(t *testing.T) {
	l := NewLog(0)
	p := []byte(strings.Repeat("x", maxLine+100))
	if n, err := l.Write(p); n != len(p) || err != nil {
		t.Fatalf("Write = %d, %v", n, err)
	}
	p[0] = 'y' // zerolog uses its buffer again
	got := l.Last(9)
	if len(got) != 1 || len(got[0]) != maxLine || got[0][0] != 'x' {
		t.Fatalf("%d lines, first of %d bytes", len(got), len(got[0]))
	}
}

func TestLogDropsWhoFallsBehind(t *testing.T) {
	l := NewLog(3)
	_, slow := l.follow(2)
	_, quick := l.follow(2)
	if _, third := l.follow(2); third != nil {
		t.Fatal("more readers than the limit")
	}
	for i := range tailBehind + 1 { // one more than it may be behind
		fmt.Fprintf(l, "line %d\n", i)
		if got := <-quick; !bytes.Equal(got, fmt.Appendf(nil, "line %d", i)) {
			t.Fatalf("line %d = %q", i, got)
		}
	}
	n := 0
	for range slow { // ends, since it is closed
		n++
	}
	if n != tailBehind {
		t.Fatalf("the dropped reader got %d lines, want %d", n, tailBehind)
	}
	if kept, again := l.follow(2); again == nil || len(kept) != 3 {
		t.Fatal("the dropped reader still takes a place")
	}
	l.leave(slow) // as its handler does; it is gone already
	l.leave(quick)
}

func TestLogManyWriters(t *testing.T) {
	l := NewLog(50)
	_, tail := l.follow(1)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 50 {
				fmt.Fprintf(l, "%d/%d\n", w, i)
			}
		})
	}
	wg.Wait()
	l.leave(tail)
	if got := len(tail); got != 200 {
		t.Fatalf("%d lines reached the reader, want 200", got)
	}
}
