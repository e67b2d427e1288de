package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"syncgate/crypto"
)

// masterKey reads the key that wraps the points' keys at rest, or makes one at the
// first start. Every error is a *config.Error that names the file.
func masterKey(path string) (*crypto.MasterKey, error) {
	key, err := readMasterKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = makeMasterKey(path); err == nil {
			key, err = readMasterKey(path)
		}
	}
	if err != nil {
		return nil, bad("master_key_file "+path, err)
	}
	return key, nil
}

func readMasterKey(path string) (*crypto.MasterKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	const most = 256 // bytes; a key has 45, and more than this is another file
	switch mode := info.Mode(); {
	case !mode.IsRegular() || info.Size() > most:
		return nil, errors.New("is no master key; name the file that holds it, or one that is not there to have it made")
	case mode.Perm()&0o077 != 0:
		return nil, fmt.Errorf("others may read it (mode %04o); chmod 600 it", mode.Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return crypto.ParseMasterKey(text)
}

// makeMasterKey links a finished file into place, so that of two processes that start at
// once the second reads the first one's key, and neither reads half a key.
func makeMasterKey(path string) error {
	key, err := crypto.GenerateMasterKey(rand.Reader)
	if err != nil {
		return err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".master-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // what may be left is a file that nobody reads
	_, err = f.Write(key.Text())
	// The key must survive whatever the keys it wraps survive.
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
