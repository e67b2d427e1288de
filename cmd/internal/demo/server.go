package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// server is `syncgate serve` in a process of its own, so that it can be killed as one.
type server struct {
	cmd     *exec.Cmd
	log     tail
	address chan string // where it listens, once it does
	done    chan error
}

// enrolment is what `point add` prints.
type enrolment struct {
	KeyID uint32 `json:"key_id"`
	Key   []byte `json:"key"` // 32 bytes
}

// serve enrols the point and starts the server, both by the commands a person would use.
func (d *demo) serve(ctx context.Context) error {
	var errs bytes.Buffer
	add := d.command(ctx, "point", "add", point, "--format", "json")
	add.Stderr = &errs
	out, err := add.Output()
	if err == nil {
		err = json.Unmarshal(out, &d.key)
	}
	if err == nil && len(d.key.Key) != 32 {
		err = errors.New("no key")
	}
	if err != nil {
		return fmt.Errorf("point add: %w %s", err, errs.Bytes())
	}
	d.ends = append(d.ends, d.stopServer)
	d.address = "127.0.0.1:0"
	if err := d.start(ctx); err != nil {
		return err
	}
	d.say("server    %s, point %s enrolled", d.address, point)
	return nil
}

func (d *demo) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, d.Program, args...)
	// Settings that are made for a real server are none of the demo's.
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "SYNCGATE_") })
	cmd.Env = append(cmd.Env, "SYNCGATE_LOG_FORMAT=json",
		"SYNCGATE_DSN="+d.centre.DSN, "SYNCGATE_DATA_DIR="+filepath.Join(d.dir, "server"))
	return cmd
}

// start starts the server at d.address and waits until it says where it listens.
func (d *demo) start(ctx context.Context) error {
	cmd := d.command(context.WithoutCancel(ctx), "serve", "--listen", d.address)
	// ^C on the terminal reaches the whole process group; the demo stops its server itself.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s := &server{cmd: cmd, address: make(chan string, 1), done: make(chan error, 1)}
	cmd.Stderr = s
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { s.done <- cmd.Wait() }()
	d.server = s
	select {
	case d.address = <-s.address:
		return nil
	case err := <-s.done:
		d.server = nil
		return fmt.Errorf("the server ended: %w\n%s", err, s.log.String())
	case <-ctx.Done():
		return ctx.Err()
	}
}

// listening is what the server's log says when connections are let in.
var listening = regexp.MustCompile(`"address":"([^"]+)".*"message":"listening"`)

// Write takes the server's log and picks out the address that it listens at.
func (s *server) Write(p []byte) (int, error) {
	n, err := s.log.Write(p)
	if found := listening.FindStringSubmatch(s.log.String()); found != nil {
		select {
		case s.address <- found[1]:
		default: // it was told before
		}
	}
	return n, err
}

// tail is the end of a log, for when something fails. Its zero value is empty.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	const most = 4000
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-most):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

// pullThePlug kills the server as a power cut would, and starts another in its place.
func (d *demo) pullThePlug(ctx context.Context, after int) error {
	s := d.server
	if err := s.cmd.Process.Kill(); err != nil {
		return err
	}
	if err := <-s.done; err == nil {
		return errors.New("the server ended before it could be killed")
	}
	d.server = nil
	d.say("crash     server killed with -9 after %s rows were acknowledged", thousands(after))
	began := time.Now()
	if err := d.start(ctx); err != nil {
		return err
	}
	d.say("          started again in %.2f s", time.Since(began).Seconds())
	return nil
}

// stopServer is TERM, and KILL for a server that does not heed it.
func (d *demo) stopServer() error {
	if d.server == nil {
		return nil
	}
	err := d.server.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(time.Minute, func() { _ = d.server.cmd.Process.Kill() }) // Wait says then that it was killed
	defer late.Stop()
	return errors.Join(err, <-d.server.done)
}
