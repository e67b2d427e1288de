package limit_test

import (
	"strings"
	"testing"
	"time"

	"syncgate/internal/limit"
)

type options struct {
	Conns   int
	Memory  int64
	Timeout time.Duration
}

func (o *options) limits() []limit.Limit {
	return []limit.Limit{
		limit.Count("Conns", &o.Conns, 10, 1, 100),
		limit.Bytes("Memory", &o.Memory, 4<<20, 1<<10, 1<<40),
		limit.Time("Timeout", &o.Timeout, 90*time.Second, time.Millisecond, time.Hour),
	}
}

func TestFillSetsZerosOnly(t *testing.T) {
	o := options{Memory: 2000}
	if err := limit.Fill("test", o.limits()); err != nil {
		t.Fatal(err)
	}
	if want := (options{10, 2000, 90 * time.Second}); o != want {
		t.Fatalf("got %+v, want %+v", o, want)
	}
}

func TestFillTakesBounds(t *testing.T) {
	for _, o := range []options{{1, 1 << 10, time.Millisecond}, {100, 1 << 40, time.Hour}} {
		if err := limit.Fill("test", o.limits()); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestFillNamesEveryOptionOutOfBounds(t *testing.T) {
	o := options{Conns: -1, Memory: 5, Timeout: 2 * time.Hour}
	err := limit.Fill("test", o.limits())
	if err == nil {
		t.Fatal("three options out of bounds are taken")
	}
	want := []string{
		"test: Conns -1 is not between 1 and 100",
		"test: Memory 5 is not between 1KiB and 1TiB",
		"test: Timeout 2h is not between 1ms and 1h",
	}
	if got := err.Error(); got != strings.Join(want, "\n") {
		t.Fatalf("got\n%s", got)
	}
}

func TestFind(t *testing.T) {
	limits := new(options).limits()
	if l := limit.Find(limits, "Timeout"); l.Name != "Timeout" || l.Text(l.Default) != "1m30s" {
		t.Errorf("got %+v", l)
	}
	defer func() {
		if recover() == nil {
			t.Error("a name that is not there is found")
		}
	}()
	limit.Find(limits, "Timeouts")
}

func TestFormat(t *testing.T) {
	for v, want := range map[int64]string{
		0: "0", 1000: "1000", 512 << 10: "512KiB", 3 << 30: "3GiB", 1<<20 + 1: "1048577", -1 << 10: "-1KiB",
	} {
		if got := limit.FormatBytes(v); got != want {
			t.Errorf("%d bytes: got %s, want %s", v, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		0: "0s", 10 * time.Second: "10s", time.Minute: "1m", 90 * time.Second: "1m30s", 10 * time.Minute: "10m",
		time.Hour: "1h", time.Hour + time.Second: "1h0m1s", 90 * time.Minute: "1h30m",
	} {
		if got := limit.FormatTime(d); got != want {
			t.Errorf("%d: got %s, want %s", d, got, want)
		}
	}
}
