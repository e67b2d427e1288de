package localdbtest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestSweep(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	old := time.Now().Add(-2 * time.Hour)
	for _, tc := range []struct {
		name          string
		age           time.Time
		locks, locked bool
		stays         bool
	}{
		{name: "killed", age: old, locks: true},
		{name: "young", age: time.Now(), locks: true, stays: true},
		{name: "in use", age: old, locks: true, locked: true, stays: true},
		{name: "not a server's", age: old, stays: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", dirPrefix)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range []string{"owner.lock", "server.lock"} {
				if !tc.locks {
					break
				}
				f, err := os.Create(filepath.Join(dir, name))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				if tc.locked && name == "server.lock" {
					if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := os.Chtimes(dir, tc.age, tc.age); err != nil {
				t.Fatal(err)
			}
			sweep()
			if _, err := os.Stat(dir); (err == nil) != tc.stays {
				t.Errorf("stat says %v, want it to stay: %v", err, tc.stays)
			}
		})
	}
}
