package test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The demo needs no configuration and ignores that of a real server. It moves rows between real durable databases, also
// across a kill -9, and leaves neither files nor processes.
func TestDemo(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		args []string
		says []string
	}{
		{"smooth", []string{"demo", "--rows", "2000"}, nil},
		{"crash", []string{"demo", "--rows", "2000", "--crash"}, []string{"killed with -9", "started again"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			out, errs, code := Run(t, []string{"TMPDIR=" + dir, "SYNCGATE_QUEUE=many"}, "syncgate", tt.args...)
			if code != 0 || errs != "" || strings.Count(out, ": identical\n") != 2 {
				t.Fatalf("exit %d\n%s%s", code, out, errs)
			}
			for _, text := range append(tt.says, "2,000 rows at the point", "2,000 rows at the centre") {
				if !strings.Contains(out, text) {
					t.Fatalf("no %q in\n%s", text, out)
				}
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Fatalf("left behind: %v %v", left, err)
			}
			if left := processesOf(t, dir); left != "" {
				t.Fatalf("still running: %s", left)
			}
		})
	}
}

// processesOf are the running processes that name a directory in their arguments or their environment.
func processesOf(t *testing.T, dir string) string {
	t.Helper()
	arguments, err := filepath.Glob("/proc/[0-9]*/cmdline")
	environments, err2 := filepath.Glob("/proc/[0-9]*/environ")
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, file := range append(arguments, environments...) {
		text, err := os.ReadFile(file)
		if err == nil && bytes.Contains(text, []byte(dir)) { // a process may end before it is read
			all = append(all, file+": "+string(bytes.ReplaceAll(text, []byte{0}, []byte(" "))))
		}
	}
	return strings.Join(all, "; ")
}
