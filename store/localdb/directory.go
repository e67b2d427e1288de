package localdb

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

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

func (d *directory) data() string     { return filepath.Join(d.path, "data") }
func (d *directory) tmp() string      { return filepath.Join(d.path, "tmp") }
func (d *directory) pidFile() string  { return filepath.Join(d.path, "db.pid") }
func (d *directory) errorLog() string { return filepath.Join(d.path, "error.log") }

// claim makes path a directory of ours, or finds that it is one, and locks it.
func claim(ctx context.Context, path string, wait time.Duration) (*directory, error) {
	if err := adopt(path); err != nil {
		return nil, err
	}
	d := &directory{path: path}
	var err error
	if d.owner, err = openLock(filepath.Join(path, "owner.lock")); err != nil {
		return nil, err
	}
	if d.server, err = openLock(filepath.Join(path, "server.lock")); err != nil {
		d.release()
		return nil, err
	}
	if err := d.lock(ctx, wait); err != nil {
		d.release()
		return nil, err
	}
	if err := os.MkdirAll(d.tmp(), 0o700); err != nil {
		d.release()
		return nil, err
	}
	return d, nil
}

// adopt checks that path is ours and puts the marker into a new or empty one.
func adopt(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("localdb: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("localdb: %w", err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; int(uid) != os.Geteuid() {
		// Root may well use the database of a service that runs as another user; it must not leave files of its own there.
		if owner := filepath.Join(path, "owner.lock"); held(owner) {
			return inUse(path, owner)
		}
		return fmt.Errorf("localdb: %s belongs to user id %d and this is user id %d; run this as its owner: %w", path, uid, os.Geteuid(), ErrForeign)
	}
	marker := filepath.Join(path, markerName)
	info, err = os.Lstat(marker)
	if err == nil && info.Mode().IsRegular() {
		return nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return fmt.Errorf("localdb: %w", err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("localdb: %s has %s in it and no %s: %w", path, entries[0].Name(), markerName, ErrForeign)
	}
	if err := os.Chmod(path, 0o700); err != nil {
		return fmt.Errorf("localdb: %w", err)
	}
	err = os.WriteFile(marker, []byte(markerText), 0o600)
	if err != nil {
		return fmt.Errorf("localdb: %w", err)
	}
	return nil
}

func openLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("localdb: %w", err)
	}
	return f, nil
}

// lock takes owner.lock at once or not at all, since its holder is a living
// process, and waits for server.lock, since its holder is on its way out.
func (d *directory) lock(ctx context.Context, wait time.Duration) error {
	if err := flock(d.owner); err != nil {
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return fmt.Errorf("localdb: lock %s: %w", d.owner.Name(), err)
		}
		return inUse(d.path, d.owner.Name())
	}
	pid := strconv.Itoa(os.Getpid()) + "\n"
	if err := d.owner.Truncate(0); err != nil {
		return fmt.Errorf("localdb: %w", err)
	}
	if _, err := d.owner.WriteAt([]byte(pid), 0); err != nil {
		return fmt.Errorf("localdb: %w", err)
	}
	deadline := time.Now().Add(wait)
	for {
		err := flock(d.server)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EWOULDBLOCK):
			return fmt.Errorf("localdb: lock %s: %w", d.server.Name(), err)
		case time.Now().After(deadline):
			return fmt.Errorf("localdb: %s: %w: the database of an earlier owner, process %s, has not ended after %v", d.path, ErrInUse, readPID(d.pidFile()), wait)
		}
		// A blocking flock can't be abandoned when ctx ends, so it is asked for again and again.
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// release gives the directory up. The database must have ended: its copy of
// server.lock would keep the lock otherwise.
func (d *directory) release() {
	for _, f := range []*os.File{d.owner, d.server} {
		if f != nil {
			_ = f.Close() // nothing was written that matters
		}
	}
}

func flock(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// held tells whether a living process has the lock, without taking it for longer than the question.
func held(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	return errors.Is(flock(f), unix.EWOULDBLOCK)
}

func inUse(path, owner string) error {
	return fmt.Errorf("localdb: %s: %w by process %s", path, ErrInUse, readPID(owner))
}

func readPID(path string) string {
	b, err := os.ReadFile(path)
	if pid := strings.TrimSpace(string(b)); err == nil && pid != "" {
		return pid
	}
	return "unknown"
}

// socketFor is DIR/db.sock, or a short name elsewhere when that would not be
// a usable address. The name is the same each time, so that a killed owner leaves
// at most one folder behind.
func socketFor(dir string, usable func(string) bool) (string, error) {
	if path := filepath.Join(dir, "db.sock"); usable(path) {
		return path, nil
	}
	name := fmt.Sprintf("syncgate-%d-%08x", os.Geteuid(), fnv32(dir))
	for _, tmp := range []string{os.TempDir(), "/tmp"} {
		if path := filepath.Join(tmp, name, "db.sock"); usable(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("localdb: %s is too long for a unix socket and %s is no help", dir, os.TempDir())
}

// prepareSocket makes the folder of a socket that stands outside DIR and
// removes a dead server's socket. It must be called with the locks held.
func (d *directory) prepareSocket(socket string) error {
	dir := filepath.Dir(socket)
	if dir != d.path {
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("localdb: %w", err)
		}
		info, err := os.Lstat(dir)
		if err != nil {
			return fmt.Errorf("localdb: %w", err)
		}
		uid := info.Sys().(*syscall.Stat_t).Uid
		if !info.IsDir() || info.Mode().Perm() != 0o700 || int(uid) != os.Geteuid() {
			return fmt.Errorf("localdb: %s must be a directory of this user's with mode 0700: %w", dir, ErrForeign)
		}
	}
	for _, path := range []string{socket, socket + ".lock"} { // MySQL keeps a .lock beside it
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("localdb: %w", err)
		}
	}
	return nil
}

// removeSocket takes away what prepareSocket made.
func (d *directory) removeSocket(socket string) {
	_ = os.Remove(socket) // the server removes it when it ends in order
	if dir := filepath.Dir(socket); dir != d.path {
		_ = os.Remove(dir)
	}
}
