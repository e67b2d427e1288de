package localdb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sys/unix"
)

// Errors of taking the directory.
var (
	// ErrForeign: localdb did not make the directory, or it belongs to another user.
	ErrForeign = errors.New("not a directory of ours")
	// ErrInUse: another process has it, or the database of a killed one has not ended within lockWait.
	ErrInUse = errors.New("directory is in use")
)

const (
	markerName = ".syncgate-localdb"
	markerText = "This directory is a private database made and run by syncgate.\n" +
		"Everything in it is syncgate's; change nothing here by hand.\n"
)

// directory is a locked DIR. The locks are held until release.
type directory struct {
	path   string
	owner  *os.File // owner.lock
	server *os.File // server.lock, which the database process inherits
}

// at is the path of one of the directory's files.
func (d *directory) at(name string) string { return filepath.Join(d.path, name) }

// openDirectory makes path a directory of ours, or checks that it is one, and locks it.
func openDirectory(ctx context.Context, path string, wait time.Duration) (*directory, error) {
	if err := adopt(ctx, path); err != nil {
		return nil, err
	}
	d := &directory{path: path}
	if err := d.lock(ctx, wait); err != nil {
		d.release()
		return nil, err
	}
	return d, nil
}

// lock takes owner.lock at once or fails, because a living process holds it. It waits for server.lock, because the
// database that holds it is shutting down.
func (d *directory) lock(ctx context.Context, wait time.Duration) (err error) {
	owner := d.at("owner.lock")
	if d.owner, err = LockFile(ctx, owner, 0); err != nil {
		return inUse(err, "process", owner)
	}
	if err := os.WriteFile(owner, fmt.Appendln(nil, os.Getpid()), 0o600); err != nil {
		return err
	}
	if d.server, err = LockFile(ctx, d.at("server.lock"), wait); err != nil {
		return inUse(err, "the database of an earlier owner, process", d.at("db.pid"))
	}
	return os.MkdirAll(d.at("tmp"), 0o700)
}

// inUse adds to ErrInUse the holder, whose process id is the content of the file pid.
func inUse(err error, holder, pid string) error {
	if !errors.Is(err, ErrInUse) {
		return err
	}
	id, _ := os.ReadFile(pid) // the error has no number when the file is missing
	return fmt.Errorf("%s: %w by %s %s", filepath.Dir(pid), ErrInUse, holder, bytes.TrimSpace(id))
}

// adopt checks that path is ours and puts the marker into a new or empty one.
func adopt(ctx context.Context, path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !ours(info) {
		// Root may use the running database of a service that is another user's. It must not leave its own files there.
		if owner := filepath.Join(path, "owner.lock"); exists(owner) {
			f, err := LockFile(ctx, owner, 0)
			if errors.Is(err, ErrInUse) {
				return inUse(err, "process", owner)
			}
			_ = f.Close() // nil when it could not be opened
		}
		return fmt.Errorf("%s does not belong to user id %d; run this as its owner: %w", path, os.Geteuid(), ErrForeign)
	}
	marker := filepath.Join(path, markerName)
	if info, err = os.Lstat(marker); err == nil && info.Mode().IsRegular() {
		return nil
	}
	if entries, err := os.ReadDir(path); err != nil {
		return err
	} else if len(entries) > 0 {
		return fmt.Errorf("%s has %s in it and no %s: %w", path, entries[0].Name(), markerName, ErrForeign)
	}
	if err := os.Chmod(path, 0o700); err != nil {
		return err
	}
	return os.WriteFile(marker, []byte(markerText), 0o600)
}

func ours(info fs.FileInfo) bool { return int(info.Sys().(*syscall.Stat_t).Uid) == os.Geteuid() }

// LockFile opens a file, made when missing, and locks it until the file is closed. ErrInUse: another process holds the
// lock for longer than wait.
func LockFile(ctx context.Context, path string, wait time.Duration) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(wait); ; {
		// A blocking flock can't be given up when ctx ends, so this polls.
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EWOULDBLOCK) && time.Now().After(deadline):
			err = fmt.Errorf("%s: %w", path, ErrInUse)
		case errors.Is(err, unix.EWOULDBLOCK):
			err = sleep(ctx, 20*time.Millisecond)
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
}

// release unlocks the directory. The database must have ended: it would hold server.lock otherwise.
func (d *directory) release() {
	_ = d.owner.Close() // nothing depends on its content; a nil file returns an error
	_ = d.server.Close()
}

// maxSocketPath is the longest unix socket address Linux takes, in bytes.
const maxSocketPath = 107

// socketFor is DIR/db.sock, or a short name elsewhere when that is no usable address. The name is the same each time,
// so that a killed owner leaves at most one folder behind.
func socketFor(dir string) (string, error) {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(dir)) // never fails
	name := fmt.Sprintf("syncgate-%d-%08x", os.Geteuid(), hash.Sum32())
	for _, folder := range []string{dir, filepath.Join(os.TempDir(), name), filepath.Join("/tmp", name)} {
		if path := filepath.Join(folder, "db.sock"); usableSocket(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("the names of %s and %s are too long for a unix socket", dir, os.TempDir())
}

// usableSocket reports whether a path can be a socket's address and be written in a DSN.
func usableSocket(path string) bool {
	c, err := mysql.ParseDSN(config(path, "x").FormatDSN())
	return len(path) <= maxSocketPath && err == nil && c.Addr == path && c.DBName == "x"
}

// prepareSocket makes the folder of a socket outside DIR and removes a dead server's socket. The locks must be held.
func (d *directory) prepareSocket(socket string) error {
	if dir := filepath.Dir(socket); dir != d.path {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if info, err := os.Lstat(dir); err != nil || !info.IsDir() || info.Mode().Perm() != 0o700 || !ours(info) {
			return fmt.Errorf("%s must be a directory of this user's with mode 0700: %w", dir, ErrForeign)
		}
	}
	return os.RemoveAll(socket)
}

// removeSocket takes away what prepareSocket made.
func (d *directory) removeSocket(socket string) {
	_ = os.RemoveAll(socket) // a server that shuts down removes it itself
	if dir := filepath.Dir(socket); dir != d.path {
		_ = os.Remove(dir)
	}
}
