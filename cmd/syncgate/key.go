package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"syncgate/cmd/internal/cli"
	"syncgate/crypto"
	"syncgate/internal/text"
	"syncgate/store"
)

func newKeyCommand() *cobra.Command {
	return cli.Group("key", "Look after the master key, which encrypts the points' keys at rest", newKeyRewrap())
}

// newKeyRewrap makes the command that moves all keys under a new master key. The new key is a finished file before the
// database changes and takes the old one's name afterwards, so that a crash leaves both, and the same command goes on.
func newKeyRewrap() *cobra.Command {
	const short = "Make a new master key and seal all points' keys under it; the old file is kept as FILE.old"
	return onCentre("rewrap", short, "", func(c *call) error {
		path := c.cfg.MasterKey
		old, err := readMasterKey(path)
		if err != nil {
			return bad("master_key_file "+path, err)
		}
		next, err := readMasterKey(path + ".new")
		if errors.Is(err, fs.ErrNotExist) {
			if err = makeMasterKey(path + ".new"); err == nil {
				next, err = readMasterKey(path + ".new")
			}
		}
		if err != nil {
			return bad("master_key_file "+path+".new", err)
		}
		n, err := c.db.Rewrap(c.Context(), func(k store.WrappedKey) ([]byte, error) {
			for _, master := range [...]*crypto.MasterKey{old, next} {
				if key, err := master.Unwrap(k.Point, k.ID, k.Wrapped); err == nil {
					return next.Wrap(key), nil
				}
			}
			return nil, fmt.Errorf("%s does not open key %d of point %s; nothing was changed", path, k.ID, k.Point)
		})
		if err != nil {
			return err
		}
		if err := errors.Join(os.Rename(path, path+".old"), os.Rename(path+".new", path)); err != nil {
			return fmt.Errorf("the keys are sealed under %s.new already: %w", path, err)
		}
		fmt.Fprintf(c.out, "%s sealed under the new key in %s. Sessions go on.\nRestart 'syncgate serve' before the next "+
			"'syncgate point add', and back up the new file.\n", text.Plural(n, "key"), path)
		return nil
	})
}
