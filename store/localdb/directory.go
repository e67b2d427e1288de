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

// Errors of claiming the directory.
var (
	// ErrForeign: the directory has something in it that localdb did not make, or
	// belongs to another user.
	ErrForeign = errors.New("not a directory of ours")
	// ErrInUse: another living owner has it, or the database of a dead one
	// has not ended within Options.LockWait.
	ErrInUse = errors.New("directory is in use")
)

const (
	markerName = ".syncgate-localdb"
	markerText = "This directory is a private database made and run by syncgate.\nEverything in it is syncgate's; change nothing here by hand.\n"
)

// directory is a claimed DIR. The locks are held until release.
type directory struct {
	path   string
	owner  *os.File // this process's claim
	server *os.File // shared with the database process through inheritance
}

// at is the path of one of the directory's files.
func (d *directory) at(name string) string { return filepath.Join(d.path, name) }

// claim makes path a directory of ours, or finds that it is one, and locks it.
func claim(ctx context.Context, path string, wait time.Duration) (*directory, error) {
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

// lock takes owner.lock at once or not at all, since its holder is a living process, and
// waits for server.lock, since its holder is on its way out.
func (d *directory) lock(ctx context.Context, wait time.Duration) (err error) {
	owner := d.at("owner.lock")
	if d.owner, err = lockFile(ctx, owner, 0, "process", owner); err != nil {
		return err
	}
	if err := os.WriteFile(owner, fmt.Appendln(nil, os.Getpid()), 0o600); err != nil {
		return err
	}
	if d.server, err = lockFile(ctx, d.at("server.lock"), wait, "the database of an earlier owner, process", d.at("db.pid")); err != nil {
		return err
	}
	return os.MkdirAll(d.at("tmp"), 0o700)
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
		// Root may well use the database of a service that runs as another user; it must not leave files of its own there.
		if owner := filepath.Join(path, "owner.lock"); exists(owner) {
			f, err := lockFile(ctx, owner, 0, "process", owner)
			if errors.Is(err, ErrInUse) {
				return err
			}
			_ = f.Close() // nil where it may not be opened
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

// lockFile opens and locks a file, trying for a while. ErrInUse: somebody else has it, whose
// process id stands in the file pid.
func lockFile(ctx context.Context, path string, wait time.Duration, holder, pid string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(wait); ; {
		// A blocking flock can't be abandoned when ctx ends, so it is asked for again and again.
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return f, nil
		case errors.Is(err, unix.EWOULDBLOCK) && time.Now().After(deadline):
			who, _ := os.ReadFile(pid) // it may not be there, and is then not named
			err = fmt.Errorf("%s: %w by %s %s", filepath.Dir(path), ErrInUse, holder, bytes.TrimSpace(who))
		case errors.Is(err, unix.EWOULDBLOCK):
			err = sleep(ctx, 20*time.Millisecond)
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
}

// release gives the directory up. The database must have ended: its copy of
// server.lock would keep the lock otherwise.
func (d *directory) release() {
	_ = d.owner.Close() // nothing was written that matters; a file that is not open says so
	_ = d.server.Close()
}

// maxSocketPath is the longest unix socket address Linux takes, in bytes.
const maxSocketPath = 107

// socketFor is DIR/db.sock, or a short name elsewhere when that would not be
// a usable address. The name is the same each time, so that a killed owner leaves
// at most one folder behind.
func socketFor(dir string) (string, error) {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(dir)) // never fails
	name := fmt.Sprintf("syncgate-%d-%08x", os.Geteuid(), hash.Sum32())
	for _, folder := range []string{dir, filepath.Join(os.TempDir(), name), filepath.Join("/tmp", name)} {
		if path := filepath.Join(folder, "db.sock"); usableSocket(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is too long for a unix socket and %s is no help", dir, os.TempDir())
}

// usableSocket tells whether a path can be a socket's address and survives
// being written into a DSN.
func usableSocket(path string) bool {
	c, err := mysql.ParseDSN(config(path, "x").FormatDSN())
	return len(path) <= maxSocketPath && err == nil && c.Addr == path && c.DBName == "x"
}

// prepareSocket makes the folder of a socket that stands outside DIR and
// removes a dead server's socket. It must be called with the locks held.
func (d *directory) prepareSocket(socket string) error {
	if dir := filepath.Dir(socket); dir != d.path {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if info, err := os.Lstat(dir); err != nil || !info.IsDir() || info.Mode().Perm() != 0o700 || !ours(info) {
			return fmt.Errorf("%s must be a directory of this user's with mode 0700: %w", dir, ErrForeign)
		}
	}
	return errors.Join(os.RemoveAll(socket), os.RemoveAll(socket+".lock")) // MySQL keeps a .lock beside it
}

// removeSocket takes away what prepareSocket made.
func (d *directory) removeSocket(socket string) {
	_ = os.RemoveAll(socket) // the server removes it when it ends in order
	if dir := filepath.Dir(socket); dir != d.path {
		_ = os.Remove(dir)
	}
}
