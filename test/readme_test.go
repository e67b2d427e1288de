package test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"syncgate/internal/harness/harnesstest"
)

// TestReadmeSteps runs the steps of README's "Use it", as a newcomer types them, in an empty directory.
func TestReadmeSteps(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(Root(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "## Use it")
	section, _, _ = strings.Cut(section, "\n## ")
	steps := "set -e\ntrap 'kill $(jobs -p); wait' EXIT\n"
	for _, block := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(section, -1) {
		steps += block[1]
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	// A person sees when a program has started.
	steps = strings.NewReplacer("127.0.0.1:11366", address,
		"syncgate serve &", "syncgate serve & until syncgate status | grep -q serving; do sleep 0.1; done\n#",
		"agent.toml & ",
		"agent.toml & until [ -S syncgate-agent-data/db/db.sock ]; do sleep 0.1; done\n#").Replace(steps)
	steps += `
until [ "$(mariadb -uroot -S syncgate-data/db/db.sock syncgate -Ne 'select name from goods')" = nail ]; do sleep 0.1; done`
	dir, err := os.MkdirTemp("/tmp", "sg") // short, for the sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(t.Context(), harnesstest.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-c", steps)
	cmd.Dir = dir
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.Env = append(os.Environ(), "SYNCGATE_LISTEN="+address,
		"PATH="+filepath.Dir(Program(t, "syncgate"))+":"+os.Getenv("PATH"))
	Program(t, "syncgate-agent")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s\n%s", err, steps, out)
	}
}
