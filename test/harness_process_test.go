package test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"syncgate/internal/harness"
	"syncgate/internal/harness/harnesstest"
	"syncgate/store/localdb/localdbtest"
)

// programs are the two commands. They are built once a run, with the race detector when the tests have it. A test
// binary has no other place to keep what all its tests share.
var programs struct {
	once sync.Once
	dir  string
	err  error
}

// Main runs the tests as localdbtest.Main does, and removes the built programs.
func Main(m *testing.M) { localdbtest.Main(cleanup{m}) }

type cleanup struct{ m *testing.M }

func (c cleanup) Run() int {
	code := c.m.Run()
	if programs.dir != "" {
		_ = os.RemoveAll(programs.dir) // a file in the temporary directory may stay
	}
	return code
}

// Program builds the commands and returns the path of one.
func Program(t testing.TB, name string) string {
	t.Helper()
	programs.once.Do(func() {
		if programs.dir, programs.err = os.MkdirTemp("", "syncgate-bin-"); programs.err != nil {
			return
		}
		args := []string{"build", "-o", programs.dir + "/"}
		if Race {
			args = append(args, "-race")
		}
		build := exec.Command("go", append(args, "syncgate/cmd/...")...)
		if out, err := build.CombinedOutput(); err != nil {
			programs.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if programs.err != nil {
		t.Fatal(programs.err)
	}
	return filepath.Join(programs.dir, name)
}

// Root is the folder of go.mod.
func Root(t testing.TB) string {
	t.Helper()
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		t.Fatal("no caller")
	}
	return filepath.Join(filepath.Dir(file), "..")
}

// SharedData is the path of a file of real data, or "" where it does not exist.
func SharedData(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(Root(t), "..", "shared", "data", name)
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return path
}

// Process is a running command of a test.
type Process struct {
	*harness.Process
	t testing.TB
}

// Start starts a command. The end of the test kills it when it still runs. With SYNCGATE_TEST_STACKS in the environment
// the log of a failed test has the stacks of what still ran.
func Start(t testing.TB, env []string, name string, args ...string) *Process {
	t.Helper()
	cmd := exec.Command(Program(t, name), args...)
	cmd.Env = append(append(os.Environ(), "SYNCGATE_LOG_FORMAT=json", "SYNCGATE_AGENT_LOG_FORMAT=json"), env...)
	started, err := harness.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	p := &Process{started, t}
	t.Cleanup(func() {
		if os.Getenv("SYNCGATE_TEST_STACKS") != "" && t.Failed() {
			_ = p.Dump(harnesstest.Patience) // the test may have ended it
		}
		_ = p.Process.Kill() // the test may have ended it
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, p.Log())
		}
	})
	return p
}

// WaitLog waits until a log line has the message, and returns that line.
func (p *Process) WaitLog(message string) map[string]any {
	p.t.Helper()
	return p.WaitLine("with the message "+message, func(line map[string]any) bool { return line["message"] == message })
}

// WaitLine waits until the log has a line, and returns it.
func (p *Process) WaitLine(what string, is func(line map[string]any) bool) map[string]any {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), harnesstest.Patience)
	defer cancel()
	line, err := p.Process.WaitLine(ctx, is)
	if err != nil {
		p.t.Fatalf("no log line %s: %v", what, err)
	}
	return line
}

// Kill kills a process that runs as a power cut would.
func (p *Process) Kill() {
	p.t.Helper()
	if err := p.Process.Kill(); err != nil {
		p.t.Fatalf("the process had ended before it was killed: %v", err)
	}
}

// Stop sends TERM. The process must end with exit code 0.
func (p *Process) Stop() {
	p.t.Helper()
	if err := p.Process.Stop(harnesstest.Patience); err != nil {
		p.t.Fatalf("the process did not end as it should: %v\n%s", err, p.Log())
	}
}

// Run runs a command to its end and returns its standard output, its standard error and its exit code.
func Run(t testing.TB, env []string, name string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*harnesstest.Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, Program(t, name), args...)
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}
