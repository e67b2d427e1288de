package reactor

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReason(t *testing.T) {
	for want, err := range map[string]error{
		"idle": ErrIdle, "stalled": ErrStalled, "overflow": ErrOverflow, "peer_closed": ErrPeerClosed,
		"descriptors": os.NewSyscallError("accept4", unix.EMFILE),
		"reset":       unix.ECONNRESET, "network": unix.EHOSTUNREACH, "gone": ErrConnGone,
		"frame_timeout": fmt.Errorf("wrapped: %w", ErrFrameTimeout), "handler": errors.New("its own"),
	} {
		if got := Reason(err); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
	if got := Reason(nil); got != "handler" {
		t.Errorf("nil: %s", got)
	}
}

func TestObserverSeesEverything(t *testing.T) {
	s := serve(t, hooks{}, nil)
	c := s.dial(t)
	all, bodies := numbered(300)
	send(t, c, all)
	expect(t, c, bodies...)
	c.Close()
	w := s.watcher
	eventually(t, "closed", func() bool { return w.reason("peer_closed") == 1 })
	s.stop(t)
	got := []int64{w.opened.Load(), w.frames.Load(), w.bytesIn.Load(), w.bytesOut.Load()}
	if want := []int64{1, 300, int64(len(all)), int64(len(all))}; !slices.Equal(got, want) {
		t.Errorf("opened, frames, bytes in, bytes out: got %d, want %d", got, want)
	}
	if w.worstLag.Load() == 0 || w.events.Load() == 0 {
		t.Error("no lag or no events were reported")
	}
}

// A turn's replies leave in one system call.
func TestOneWriteForATurn(t *testing.T) {
	writes := func() (n int) {
		text, err := os.ReadFile("/proc/self/io")
		if err != nil {
			t.Skip(err)
		}
		_, after, _ := strings.Cut(string(text), "syscw: ")
		if _, err := fmt.Sscan(after, &n); err != nil {
			t.Skip(err)
		}
		return n
	}
	s := serve(t, hooks{}, nil)
	c := s.dial(t)
	all, bodies := numbered(1000)
	before := writes()
	send(t, c, all)
	expect(t, c, bodies...)
	if n := writes() - before; n > 50 {
		t.Errorf("%d system calls for writing 1000 replies", n)
	}
}
