package localdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// maxErrorLog is the size above which error.log becomes error.log.1 at the next start.
const maxErrorLog = 8 << 20

// baseArgs are the flags of every run of the binary. --no-defaults must come first.
func (s *Server) baseArgs(d *directory, data string) []string {
	b := s.binary
	args := []string{"--no-defaults", "--basedir=" + b.Base, "--datadir=" + data, "--tmpdir=" + d.tmp()}
	if b.Share != "" {
		args = append(args, "--lc-messages-dir="+b.Share, "--character-sets-dir="+b.Share+"/charsets")
	}
	if b.Plugins != "" {
		args = append(args, "--plugin-dir="+b.Plugins)
	}
	if os.Geteuid() == 0 {
		args = append(args, "--user=root") // as root it refuses to start until told whom to run as
	}
	if !s.options.Durable {
		args = append(args, "--innodb-log-file-size=16M", "--innodb-buffer-pool-size=64M",
			"--innodb-flush-log-at-trx-commit=0", "--innodb-flush-method=nosync", "--innodb-doublewrite=0")
	}
	return args
}

// serveArgs are the flags of the server that answers.
func (s *Server) serveArgs(d *directory) []string {
	args := append(s.baseArgs(d, d.data()),
		"--socket="+s.socket,
		"--pid-file="+d.pidFile(),
		"--skip-networking",
		"--skip-name-resolve",
		"--character-set-server=utf8mb4",
		"--max-allowed-packet=64M",
		"--max-connections="+strconv.Itoa(s.options.MaxConnections),
		"--secure-file-priv="+d.tmp(), // SQL can read and write no file of the user's
		"--skip-log-bin",              // MySQL has one by default; nobody replicates from here
	)
	if s.options.Durable {
		args = append(args, "--innodb-flush-log-at-trx-commit=1", "--sync-binlog=1")
	} else {
		args = append(args, "--innodb-fast-shutdown=2", "--performance-schema=0")
	}
	if s.binary.MySQL {
		args = append(args, "--mysqlx=OFF") // it would open a port and a socket in /tmp
	}
	return append(args, s.options.Args...)
}

// command prepares one run of the binary. The child inherits server.lock, so
// that the lock lives as long as it does.
func (s *Server) command(d *directory, log *os.File, args []string) *exec.Cmd {
	cmd := exec.Command(s.binary.Path, args...)
	cmd.Dir = d.path
	cmd.Env = append(os.Environ(), s.binary.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{d.server}
	// A group of its own: a terminal's Ctrl-C reaches the parent alone, which stops the database last.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// serve starts the database and watches over it until it ends. It returns nil when it was
// stopped because ctx ended, ErrDied and why otherwise.
func (s *Server) serve(ctx context.Context, d *directory) error {
	if err := d.prepareSocket(s.socket); err != nil {
		return err
	}
	log, from, err := openErrorLog(d)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := s.command(d, log, s.serveArgs(d))
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if s.options.Durable {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("localdb: start: %w", err)
	}
	p := watch(cmd)

	err = s.waitAnswer(ctx, p)
	if err == nil {
		s.up(cmd.Process.Pid)
		select {
		case <-p.ended:
			err = fmt.Errorf("localdb: %w: %v", ErrDied, cmd.ProcessState)
		case <-ctx.Done():
			err = ctx.Err()
		}
		s.down()
	}
	if ctx.Err() != nil {
		return p.stop(s.options.StopTimeout)
	}
	err = fmt.Errorf("%w: %s", err, complaint(d.errorLog(), from))
	return errors.Join(err, p.stop(s.options.StopTimeout)) // it may run and not answer
}

// process is a started command whose end can be waited for by many.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended and cmd.ProcessState says how
}

func watch(cmd *exec.Cmd) *process {
	p := &process{cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait() // ProcessState tells more
	}()
	return p
}

// stop ends the process in order, or by force when it takes longer than
// patience. It returns when the process is gone.
func (p *process) stop(patience time.Duration) error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by itself
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case <-p.ended:
		return nil
	case <-timeout.C:
		_ = p.cmd.Process.Kill()
		<-p.ended
		return fmt.Errorf("localdb: the database did not stop within %v and was killed", patience)
	}
}

// waitAnswer returns when the database answers a ping, when it has ended, or
// when StartTimeout or ctx has.
func (s *Server) waitAnswer(ctx context.Context, p *process) error {
	db, err := s.open("")
	if err != nil {
		return err
	}
	defer db.Close()
	deadline := time.NewTimer(s.options.StartTimeout)
	defer deadline.Stop()
	pause := 2 * time.Millisecond
	for {
		ping, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := db.PingContext(ping)
		cancel()
		if err == nil {
			return nil
		}
		next := time.NewTimer(pause)
		select {
		case <-next.C:
		case <-p.ended:
			next.Stop()
			return fmt.Errorf("localdb: %w before it answered: %v", ErrDied, p.cmd.ProcessState)
		case <-deadline.C:
			next.Stop()
			return fmt.Errorf("localdb: no answer within %v: %w", s.options.StartTimeout, err)
		case <-ctx.Done():
			next.Stop()
			return ctx.Err()
		}
		pause = min(pause*2, 50*time.Millisecond)
	}
}

// openErrorLog opens error.log for appending and tells where the new words begin.
func openErrorLog(d *directory) (*os.File, int64, error) {
	path := d.errorLog()
	if info, err := os.Stat(path); err == nil && info.Size() > maxErrorLog {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, 0, fmt.Errorf("localdb: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, 0, fmt.Errorf("localdb: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, 0, fmt.Errorf("localdb: %w", err)
	}
	return f, info.Size(), nil
}

// complaint is what the server said about its failure: its [ERROR] lines since
// from, or its last lines when it has none.
func complaint(path string, from int64) string {
	b, err := os.ReadFile(path)
	if err != nil || int64(len(b)) < from {
		return "see " + path
	}
	lines := strings.Split(string(bytes.TrimSpace(b[from:])), "\n")
	var said []string
	for _, line := range lines {
		if strings.Contains(line, "[ERROR]") || strings.HasPrefix(line, "ERROR:") {
			said = append(said, line)
		}
	}
	if len(said) == 0 {
		said = lines
	}
	if len(said) > 4 {
		said = said[len(said)-4:]
	}
	return strings.Join(said, "; ") + " (see " + path + ")"
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func fnv32(s string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(s)) // a hash's Write never fails
	return h.Sum32()
}
