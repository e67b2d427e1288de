package admin

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
)

// longestPath leaves room in the 108 bytes of a unix socket's address for the directory that the socket is made in.
const longestPath = 90

// listenSocket makes the control socket. It is made in a directory that only its owner may enter, and moved to its path
// with its mode, so that nobody else can open it meanwhile. It takes the place of one that a killed server has left.
func listenSocket(path, group string) (net.Listener, error) {
	if conn, err := net.Dial("unix", path); err == nil {
		_ = conn.Close() // nothing was sent
		return nil, errors.New("another server serves it")
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	if len(path) > longestPath {
		return nil, fmt.Errorf("the path has more than %d bytes; name a shorter one in admin.socket", longestPath)
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".s")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir) //nolint:errcheck // an empty directory is left
	made := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: made})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // it has another path then
	if err = grant(made, group); err == nil {
		err = os.Rename(made, path)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &socket{l, path}, nil
}

// grant sets the mode of a socket, and lets a group open it.
func grant(path, group string) error {
	if group == "" {
		return os.Chmod(path, 0o600)
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return err
	}
	id, err := strconv.Atoi(g.Gid)
	if err == nil {
		err = os.Chown(path, -1, id)
	}
	if err == nil {
		err = os.Chmod(path, 0o660)
	}
	return err
}

// socket is a listener whose path is removed when it is closed.
type socket struct {
	net.Listener
	path string
}

func (s *socket) Close() error { return errors.Join(os.Remove(s.path), s.Listener.Close()) }
