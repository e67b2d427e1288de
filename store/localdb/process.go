package localdb

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sys/unix"
)

// maxErrorLog is the size above which error.log becomes error.log.1 at the next start.
const maxErrorLog = 8 << 20

// baseArgs are the flags of every run of the binary. --no-defaults must come first.
func (s *Server) baseArgs(d *directory, data string) []string {
	b := s.binary
	args := []string{"--no-defaults", "--basedir=" + b.base, "--datadir=" + data, "--tmpdir=" + d.at("tmp")}
	if b.share != "" {
		args = append(args, "--lc-messages-dir="+b.share, "--character-sets-dir="+b.share+"/charsets")
	}
	if b.plugins != "" {
		args = append(args, "--plugin-dir="+b.plugins)
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
	args := append(s.baseArgs(d, d.at("data")),
		"--socket="+s.socket,
		"--pid-file="+d.at("db.pid"),
		"--skip-networking",
		"--skip-name-resolve",
		"--character-set-server=utf8mb4",
		"--max-allowed-packet=64M",
		"--max-connections=400",
		"--secure-file-priv="+d.at("tmp"), // SQL can read and write no file of the user's
		"--skip-log-bin",                  // MySQL has one by default; nobody replicates from here
	)
	if s.options.Durable {
		args = append(args, "--innodb-flush-log-at-trx-commit=1", "--sync-binlog=1")
	} else {
		args = append(args, "--innodb-fast-shutdown=2", "--performance-schema=0")
	}
	if s.binary.mysql {
		args = append(args, "--mysqlx=OFF") // it would open a port and a socket in /tmp
	}
	return append(args, s.options.Args...)
}

// command prepares one run of the binary, killed when ctx ends. The child inherits
// server.lock, so that the lock lives as long as it does.
func (s *Server) command(ctx context.Context, d *directory, log *os.File, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.binary.path, args...)
	cmd.Dir = d.path
	cmd.Env = append(append(os.Environ(), "NOTIFY_SOCKET="), s.binary.env...) // systemd waits for our word, not the child's
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{d.server}
	// A group of its own: a terminal's Ctrl-C reaches the parent alone, which stops the database last.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
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
	asked, stop := context.WithCancel(ctx)
	defer stop()
	cmd := s.command(asked, d, log, s.serveArgs(d))
	if s.options.Durable {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = s.options.StopTimeout // then it is killed
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	alive, ended := context.WithCancelCause(context.WithoutCancel(ctx))
	go func() {
		_ = cmd.Wait() // ProcessState tells more
		ended(fmt.Errorf("%w: %v", ErrDied, cmd.ProcessState))
	}()

	if err = s.waitAnswer(alive); err == nil {
		s.pid.Store(int64(cmd.Process.Pid))
		if !s.answered() {
			close(s.ready)
		}
		s.options.Observer(Event{State: Up, PID: cmd.Process.Pid})
		<-alive.Done()
		s.pid.Store(0)
		err = context.Cause(alive)
	}
	stop() // it may run and not answer
	<-alive.Done()
	if ctx.Err() == nil {
		return fmt.Errorf("%w: %s", err, complaint(log.Name(), from))
	}
	if cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return fmt.Errorf("the database did not stop within %v and was killed", s.options.StopTimeout)
	}
	return nil
}

// waitAnswer returns when the database answers a ping, when it is not alive any more, or
// when startTimeout has run out.
func (s *Server) waitAnswer(alive context.Context) error {
	c := config(s.socket, "")
	c.Logger = &mysql.NopLogger{} // a server that is still starting makes the driver print complaints otherwise
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	defer db.Close()
	ctx, cancel := context.WithTimeoutCause(alive, startTimeout, fmt.Errorf("no answer within %v", startTimeout))
	defer cancel()
	for pause := 2 * time.Millisecond; ; pause = min(pause*2, 50*time.Millisecond) {
		err := db.PingContext(ctx)
		if err == nil {
			return nil
		}
		if sleep(ctx, pause) != nil {
			return fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		}
	}
}

// bootstrap makes the data directory unless it is there already. It is made
// aside and renamed, so that one which exists is complete.
func (s *Server) bootstrap(ctx context.Context, d *directory) error {
	data, fresh := d.at("data"), d.at("data.new")
	if exists(data) {
		return s.sameEngine(data)
	}
	for _, step := range []func() error{
		func() error { return os.RemoveAll(fresh) },
		func() error { return os.Mkdir(fresh, 0o700) },
		func() error { return s.fill(ctx, d, fresh) },
		func() error { return s.sync(fresh) },
		func() error { return os.Rename(fresh, data) },
		func() error { return s.sync(d.path) },
	} {
		if err := step(); err != nil {
			return fmt.Errorf("make data directory: %w", err)
		}
	}
	return nil
}

// fill makes the system tables. MariaDB's own SQL is fed to mariadbd --bootstrap: 0.3 s
// where mariadb-install-db takes 0.6 to 2, and that script needs a helper which a
// bare mariadb-server-core lacks.
func (s *Server) fill(ctx context.Context, d *directory, data string) error {
	log, from, err := openErrorLog(d)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := s.command(ctx, d, log, append(s.baseArgs(d, data), "--initialize-insecure"))
	if !s.binary.mysql {
		cmd = s.command(ctx, d, log, append(s.baseArgs(d, data), "--bootstrap", "--enforce-storage-engine=", "--log-warnings=0"))
		// A NULL auth_root_socket gives root an empty password: the directory's mode is the lock.
		sql := []io.Reader{strings.NewReader("create database mysql;\nuse mysql;\nset @auth_root_socket=NULL;\n")}
		for _, name := range s.binary.bootstrapSQL {
			f, err := os.Open(name)
			if err != nil {
				return err
			}
			defer f.Close()
			sql = append(sql, f, strings.NewReader("\n"))
		}
		cmd.Stdin = io.MultiReader(sql...)
	}
	if err := cmd.Run(); ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil {
		return fmt.Errorf("%w: %s", err, complaint(log.Name(), from))
	}
	return nil
}

// sameEngine refuses a data directory that the other engine made: both would
// take it for their own and damage it.
func (s *Server) sameEngine(data string) error {
	if exists(filepath.Join(data, "aria_log_control")) == s.binary.mysql { // MariaDB's alone
		return fmt.Errorf("%s was made by another engine than %s: %w", data, s.binary.version, ErrForeign)
	}
	return nil
}

// sync brings the filesystem of path to the disk, where that matters.
func (s *Server) sync(path string) error {
	if !s.options.Durable {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}

// openErrorLog opens error.log for appending and tells where the new words begin.
func openErrorLog(d *directory) (*os.File, int64, error) {
	path := d.at("error.log")
	if info, err := os.Stat(path); err == nil && info.Size() > maxErrorLog {
		_ = os.Rename(path, path+".1") // else it goes on growing
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, 0, err
	}
	from, err := f.Seek(0, io.SeekEnd)
	return f, from, err
}

// complaint is what the server said about its failure: its last ERROR lines since
// from, or its last lines when it has none.
func complaint(path string, from int64) string {
	b, err := os.ReadFile(path)
	if err != nil || int64(len(b)) < from {
		return "see " + path
	}
	lines := strings.Split(string(bytes.TrimSpace(b[from:])), "\n")
	said := slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return !strings.Contains(line, "ERROR") })
	if len(said) == 0 {
		said = lines
	}
	return strings.Join(said[max(0, len(said)-4):], "; ") + " (see " + path + ")"
}
