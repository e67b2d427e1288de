package config

import (
	"testing"
	"time"
)

func TestDurationAndSize(t *testing.T) {
	for text, want := range map[string]time.Duration{"0s": 0, "500ms": 500 * time.Millisecond,
		"1m30s": 90 * time.Second, "1h": time.Hour} {
		var d Duration
		if err := d.UnmarshalText([]byte(text)); err != nil || time.Duration(d) != want {
			t.Errorf("duration %s is read as %v, %v", text, time.Duration(d), err)
		}
	}
	for text, want := range map[string]Size{"0": 0, "1000": 1000, "4KiB": 4 << 10, "3MiB": 3 << 20, "2 GiB": 2 << 30,
		"1TiB": 1 << 40} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("size %s is read as %d, %v", text, s, err)
		}
	}
	for _, text := range []string{"-1", "x", "9999999999GiB", "1.5MiB"} {
		if new(Size).UnmarshalText([]byte(text)) == nil || new(Duration).UnmarshalText([]byte(text)) == nil {
			t.Errorf("%q was read", text)
		}
	}
}
