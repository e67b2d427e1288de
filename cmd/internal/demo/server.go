package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// server is `syncgate serve` in a process of its own, so that it can be killed as one.
type server struct {
	cmd  *exec.Cmd
	done chan error
}

// enrolment is what `point add` prints.
type enrolment struct {
	ID     uint32
	Secret [32]byte
}

// serve enrols the point and starts the server, both by the commands a person would use.
func (d *demo) serve(ctx context.Context) error {
	if err := d.enrol(ctx); err != nil {
		return err
	}
	d.address = "127.0.0.1:0"
	if err := d.startServer(ctx); err != nil {
		return err
	}
	d.say("server    %s, point %s enrolled", d.address, point)
	return nil
}

func (d *demo) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, d.Program, args...)
	cmd.Env = append(os.Environ(), "SYNCGATE_LOG_FORMAT=json", "SYNCGATE_LOG_LEVEL=info",
		"SYNCGATE_DSN="+d.centre.dsn, "SYNCGATE_DATA_DIR="+filepath.Join(d.dir, "server"))
	return cmd
}

func (d *demo) enrol(ctx context.Context) error {
	var errs bytes.Buffer
	cmd := d.command(ctx, "point", "add", point, "--format", "json")
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("point add: %w: %s", err, errs.Bytes())
	}
	var printed struct {
		KeyID uint32 `json:"key_id"`
		Key   string `json:"key"`
	}
	if err := json.Unmarshal(out, &printed); err != nil {
		return fmt.Errorf("point add: %w", err)
	}
	secret, err := base64.StdEncoding.DecodeString(printed.Key)
	if err != nil || len(secret) != len(d.key.Secret) {
		return errors.New("point add printed no key")
	}
	d.key.ID = printed.KeyID
	copy(d.key.Secret[:], secret)
	return nil
}

// startServer starts the server at d.address and waits until it says that it listens.
func (d *demo) startServer(ctx context.Context) error {
	cmd := d.command(context.WithoutCancel(ctx), "serve", "--listen", d.address)
	// ^C on the terminal reaches the whole process group; the demo stops its server itself.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	log, err := d.log("server")
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s := &server{cmd: cmd, done: make(chan error, 1)}
	listening := make(chan string, 1)
	go func() {
		follow(stderr, log, listening)
		s.done <- cmd.Wait()
	}()
	d.server = s
	select {
	case d.address = <-listening:
		return nil
	case err := <-s.done:
		d.server = nil
		return errors.Join(fmt.Errorf("the server ended: %w", err), d.logTail())
	case <-ctx.Done():
		return ctx.Err()
	}
}

// follow copies the log and picks out the address the server listens at.
func follow(r io.Reader, log io.Writer, listening chan<- string) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		_, _ = log.Write(line) // the log is for a person to look at when something failed
		var said struct{ Message, Address string }
		if json.Unmarshal(line, &said) == nil && said.Message == "listening" {
			select {
			case listening <- said.Address:
			default:
			}
		}
	}
}

// pullThePlug kills the server as a power cut would, and starts another in its place.
func (d *demo) pullThePlug(ctx context.Context, after int) error {
	if err := d.server.cmd.Process.Kill(); err != nil {
		return err
	}
	<-d.server.done // it says that it was killed
	d.server = nil
	d.say("crash     server killed with -9 after %s rows were acknowledged", thousands(after))
	began := time.Now()
	if err := d.startServer(ctx); err != nil {
		return err
	}
	d.say("          started again in %.2f s", time.Since(began).Seconds())
	return nil
}

// stop is TERM, and KILL for a server that does not heed it.
func (s *server) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-s.done:
		return err
	case <-time.After(time.Minute):
		return errors.Join(errors.New("the server did not stop within a minute"), s.cmd.Process.Kill())
	}
}

// log is the file that a part writes its log to. It closes with the demo.
func (d *demo) log(part string) (io.Writer, error) {
	f, err := os.OpenFile(filepath.Join(d.dir, part+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err == nil {
		d.logs = append(d.logs, f)
	}
	return f, err
}

// logTail is the end of both logs, for when something failed.
func (d *demo) logTail() error {
	var all []byte
	for _, part := range []string{"server", "agent"} {
		text, err := os.ReadFile(filepath.Join(d.dir, part+".log"))
		if err != nil {
			continue
		}
		if len(text) > 4000 {
			text = text[len(text)-4000:]
		}
		all = fmt.Appendf(all, "\nlog of the %s:\n%s", part, text)
	}
	return errors.New(string(all))
}
