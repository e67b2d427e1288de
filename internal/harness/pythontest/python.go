// Package pythontest runs Python for tests that compare syncgate with it.
package pythontest

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Run runs Python of a version and returns the lines that it prints, or skips the test where there is none. It looks on
// PATH, in /usr/bin and among pyenv's. A shim on PATH may refuse to run, so each is tried.
func Run(t testing.TB, version string, stdin []byte, args ...string) []string {
	t.Helper()
	paths := []string{"python" + version, "/usr/bin/python" + version}
	if home, err := os.UserHomeDir(); err == nil {
		kept, _ := filepath.Glob(filepath.Join(home, ".pyenv", "versions", version+".*", "bin", "python"+version))
		paths = append(paths, kept...)
	}
	for _, path := range paths {
		if exec.Command(path, "-c", "import json").Run() != nil {
			continue
		}
		cmd := exec.Command(path, args...)
		cmd.Stdin = bytes.NewReader(stdin)
		cmd.Env = append(os.Environ(), "PYTHONIOENCODING=utf-8")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v: %s", path, err, stderr.Bytes())
		}
		return strings.Split(strings.TrimSpace(string(out)), "\n")
	}
	t.Skipf("no python%s here", version)
	return nil
}
