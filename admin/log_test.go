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

func texts(lines []logLine) []string {
	var s []string
	for _, l := range lines {
		s = append(s, string(l.text))
	}
	return s
}

// Law: a reader that comes with the id of a line gets the lines after it that are kept, in order; one that comes with
// another run's id gets all that are kept.
func TestLogResumes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(1, 7).Draw(t, "size")
		lines := rapid.SliceOf(rapid.StringMatching(`[a-z]{0,5}`)).Draw(t, "lines")
		seen := rapid.IntRange(0, len(lines)).Draw(t, "seen")
		l := NewLog(size)
		for _, line := range lines {
			if _, err := l.Write([]byte(line + "\n")); err != nil {
				t.Fatal(err)
			}
		}
		kept := lines[max(0, len(lines)-size):]
		for after, want := range map[string][]string{
			fmt.Sprintf("%s-%d", l.boot, seen): lines[max(seen, len(lines)-size):],
			fmt.Sprintf("other-%d", seen):      kept,
			"":                                 kept,
		} {
			got, _ := l.follow(after, 9)
			if !slices.Equal(texts(got), want) {
				t.Fatalf("after %q of %d lines in a ring of %d: %q, want %q", after, len(lines), size, texts(got), want)
			}
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
	got, _ := l.follow("", 1)
	if len(got) != 1 || len(got[0].text) != maxLine || got[0].text[0] != 'x' {
		t.Fatalf("%d lines", len(got))
	}
}

func TestLogDropsWhoFallsBehind(t *testing.T) {
	l := NewLog(3)
	_, slow := l.follow("", 2)
	_, quick := l.follow("", 2)
	if _, third := l.follow("", 2); third != nil {
		t.Fatal("more readers than the limit")
	}
	for i := range tailBehind + 1 { // one more than it may be behind
		fmt.Fprintf(l, "line %d\n", i)
		if got := <-quick; !bytes.Equal(got.text, fmt.Appendf(nil, "line %d", i)) {
			t.Fatalf("line %d = %q", i, got.text)
		}
	}
	n := 0
	for range slow { // ends, since it is closed
		n++
	}
	if n != tailBehind {
		t.Fatalf("the dropped reader got %d lines, want %d", n, tailBehind)
	}
	if kept, again := l.follow("", 2); again == nil || len(kept) != 3 {
		t.Fatal("the dropped reader still takes a place")
	}
	l.leave(slow) // as its handler does; it is gone already
	l.leave(quick)
}

func TestLogManyWriters(t *testing.T) {
	l := NewLog(50)
	_, tail := l.follow("", 1)
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
