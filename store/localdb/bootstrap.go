package localdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// bootstrap makes the data directory unless it is there already. It is made
// aside and renamed, so that one which exists is complete.
func (s *Server) bootstrap(ctx context.Context, d *directory) error {
	if exists(d.data()) {
		return s.sameEngine(d)
	}
	fresh := d.data() + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("localdb: %w", err)
	}
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return fmt.Errorf("localdb: %w", err)
	}
	var err error
	if s.binary.MySQL {
		err = s.runToEnd(ctx, d, nil, append(s.baseArgs(d, fresh), "--initialize-insecure")...)
	} else {
		err = s.bootstrapMariaDB(ctx, d, fresh)
	}
	if err != nil {
		return fmt.Errorf("localdb: make data directory: %w", err)
	}
	if s.options.Durable {
		if err := syncFilesystem(fresh); err != nil {
			return fmt.Errorf("localdb: sync %s: %w", fresh, err)
		}
	}
	if err := os.Rename(fresh, d.data()); err != nil {
		return fmt.Errorf("localdb: %w", err)
	}
	if s.options.Durable {
		if err := syncFilesystem(d.path); err != nil {
			return fmt.Errorf("localdb: sync %s: %w", d.path, err)
		}
	}
	return nil
}

// bootstrapMariaDB feeds the server's own SQL to mariadbd --bootstrap: 0.3 s
// where mariadb-install-db takes 0.6 to 2, and that script needs a helper which a
// bare mariadb-server-core lacks.
func (s *Server) bootstrapMariaDB(ctx context.Context, d *directory, data string) error {
	files, err := s.binary.bootstrapFiles()
	if err != nil {
		return err
	}
	// A NULL auth_root_socket gives root an empty password: the directory's mode is the lock.
	sql := []io.Reader{strings.NewReader("create database mysql;\nuse mysql;\nset @auth_root_socket=NULL;\n")}
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		sql = append(sql, f, strings.NewReader("\n"))
	}
	args := append(s.baseArgs(d, data), "--bootstrap", "--enforce-storage-engine=", "--log-warnings=0")
	return s.runToEnd(ctx, d, io.MultiReader(sql...), args...)
}

// runToEnd runs the server binary in a mode that ends by itself.
func (s *Server) runToEnd(ctx context.Context, d *directory, stdin io.Reader, args ...string) error {
	log, from, err := openErrorLog(d)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := s.command(d, log, args)
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL // what it was making is thrown away
	cmd.Stdin = stdin
	if err := cmd.Start(); err != nil {
		return err
	}
	p := watch(cmd)
	select {
	case <-p.ended:
	case <-ctx.Done():
		_ = cmd.Process.Kill() // it may have ended by itself
		<-p.ended
		return ctx.Err()
	}
	if !cmd.ProcessState.Success() {
		return fmt.Errorf("%v: %s", cmd.ProcessState, complaint(d.errorLog(), from))
	}
	return nil
}

// sameEngine refuses a data directory that the other engine made: both would
// take it for their own and damage it.
func (s *Server) sameEngine(d *directory) error {
	_, err := os.Stat(filepath.Join(d.data(), "aria_log_control")) // MariaDB's alone
	switch {
	case errors.Is(err, fs.ErrNotExist) && !s.binary.MySQL:
		return fmt.Errorf("localdb: %s was made by MySQL and %s is MariaDB: %w", d.data(), s.binary.Path, ErrForeign)
	case err == nil && s.binary.MySQL:
		return fmt.Errorf("localdb: %s was made by MariaDB and %s is MySQL: %w", d.data(), s.binary.Path, ErrForeign)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("localdb: %w", err)
	}
	return nil
}

func syncFilesystem(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.Syncfs(int(f.Fd()))
}
