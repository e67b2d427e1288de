// Package test holds the tests that need the whole: real processes, real databases, real kills, and clients that share
// no code with the server.
package test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"syncgate/store/localdb/localdbtest"
)

// patience bounds waits that take well under a second on an idle machine.
const patience = 60 * time.Second

// programs are the two commands. They are built once a run, with the race detector when the tests have it.
var programs struct {
	once sync.Once
	dir  string
	err  error
}

func TestMain(m *testing.M) { localdbtest.Main(cleanup{m}) }

// cleanup removes the built programs after the last test.
type cleanup struct{ m *testing.M }

func (c cleanup) Run() int {
	code := c.m.Run()
	if programs.dir != "" {
		_ = os.RemoveAll(programs.dir)
	}
	return code
}

// program builds the commands and returns the path of one.
func program(t testing.TB, name string) string {
	t.Helper()
	programs.once.Do(func() {
		if programs.dir, programs.err = os.MkdirTemp("", "syncgate-bin-"); programs.err != nil {
			return
		}
		args := []string{"build", "-o", programs.dir + "/"}
		if raceEnabled {
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

// root is the folder of go.mod.
func root(t testing.TB) string {
	t.Helper()
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		t.Fatal("no caller")
	}
	return filepath.Dir(filepath.Dir(file))
}

// process is a running command whose log is JSON lines on standard error.
type process struct {
	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended and all its output is read

	mu    sync.Mutex
	log   bytes.Buffer
	heard *sync.Cond
}

// start runs a command. The end of the test kills it when it still runs.
func start(t testing.TB, env []string, name string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(program(t, name), args...), done: make(chan struct{})}
	p.heard = sync.NewCond(&p.mu)
	p.cmd.Env = append(append(os.Environ(), "SYNCGATE_LOG_FORMAT=json", "SYNCGATE_AGENT_LOG_FORMAT=json"), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		lines := bufio.NewReader(stderr)
		for {
			line, err := lines.ReadBytes('\n')
			p.mu.Lock()
			p.log.Write(line)
			p.heard.Broadcast()
			p.mu.Unlock()
			if err != nil {
				break
			}
		}
		_ = p.cmd.Wait() // the state is read by exitCode
		p.mu.Lock()
		p.heard.Broadcast()
		p.mu.Unlock()
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, p.text())
		}
	})
	return p
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// waitLog waits until a log line has the message, and returns that line.
func (p *process) waitLog(message string) map[string]any {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	defer context.AfterFunc(ctx, p.heard.Broadcast)()
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		for line := range strings.SplitSeq(p.log.String(), "\n") {
			var fields map[string]any
			if json.Unmarshal([]byte(line), &fields) == nil && fields["message"] == message {
				return fields
			}
		}
		ended := false
		select {
		case <-p.done:
			ended = true
		default:
		}
		if ended || ctx.Err() != nil {
			p.t.Fatalf("no log line %q (ended: %v) in\n%s", message, ended, p.log.String())
		}
		p.heard.Wait()
	}
}

// kill sends SIGKILL and waits for the end.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.done
}

// stop sends SIGTERM and returns the exit code.
func (p *process) stop() int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	return p.exitCode()
}

// exitCode waits for the process to end by itself.
func (p *process) exitCode() int {
	p.t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		p.t.Fatalf("still running:\n%s", p.text())
	}
	return p.cmd.ProcessState.ExitCode()
}

// run runs a command to its end and returns its standard output, its standard error and its exit code.
func run(t testing.TB, env []string, name string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(t, name), args...)
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}
