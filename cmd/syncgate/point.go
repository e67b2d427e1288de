package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"syncgate/cmd/internal/cli"
	"syncgate/cmd/internal/database"
	"syncgate/crypto"
	"syncgate/internal/text"
	"syncgate/store"
)

func newPoint() *cobra.Command {
	return cli.Group("point", "Enrol detection points, change their keys, list what they last used",
		newPointAdd(), newPointList(), newPointRotate(), newPointRevoke(), newPointLegacy())
}

// onPoint makes a command whose first argument is a point's name.
func onPoint(use, short string, run func(c *call, name string) error) *cobra.Command {
	cmd := onCentre(use, short, textOrJSON, func(c *call) error {
		name := c.args[0]
		err := run(c, name)
		switch {
		case errors.Is(err, store.ErrExists):
			return fmt.Errorf("point %s is already enrolled, or is revoked; "+
				"'syncgate point rotate %s' gives an enrolled point another key", name, name)
		case errors.Is(err, store.ErrKeyInUse):
			return fmt.Errorf("%w; give the agent its newer key first, or revoke that one with 'syncgate point "+
				"revoke %s --key-id N'",
				err, name)
		case errors.Is(err, store.ErrNotFound):
			return fmt.Errorf("point %s does not exist or is revoked; "+
				"'syncgate point list' shows points and live keys", name)
		}
		return err
	})
	count := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := count(cmd, args); err != nil {
			return err
		}
		return checkPointName(args[0])
	}
	return cmd
}

// checkPointName refuses names that the wire cannot carry or a terminal cannot show.
func checkPointName(name string) error {
	switch {
	case name == "" || len(name) > 64:
		return cli.Usage(fmt.Errorf("a point's name has 1 to 64 bytes, not %d", len(name)))
	case name == "*":
		return cli.Usage(errors.New("* stands for every point and cannot be the name of one"))
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return cli.Usage(errors.New("a point's name is UTF-8 without control characters"))
	}
	return nil
}

func newPointAdd() *cobra.Command {
	var note string
	const short = "Enrol a point and print, once, the settings of its agent"
	cmd := onPoint("add NAME", short, func(c *call, name string) error {
		if strings.TrimSpace(name) != name {
			return cli.Usage(fmt.Errorf("the name %q begins or ends with a space, which nobody sees", name))
		}
		return newKey(c, name, func(wrap store.WrapKey) (uint32, error) {
			return c.db.AddPoint(c.Context(), name, note, wrap)
		})
	})
	cmd.Flags().StringVar(&note, "note", "", "text for people, such as where the point is")
	return cmd
}

func newPointRotate() *cobra.Command {
	const short = "Give a point another key; the earlier one stays valid until it is revoked"
	return onPoint("rotate NAME", short, func(c *call, name string) error {
		return newKey(c, name, func(wrap store.WrapKey) (uint32, error) {
			return c.db.RotatePoint(c.Context(), name, wrap)
		})
	})
}

// newKey makes a key, stores it wrapped by save, and prints it. It cannot be read again.
func newKey(c *call, point string, save func(store.WrapKey) (uint32, error)) error {
	master, err := masterKey(c.Context(), c.cfg.MasterKey, c.db)
	if err != nil {
		return err
	}
	key := crypto.Key{Point: point}
	_, _ = rand.Read(key.Secret[:]) // never fails
	key.ID, err = save(func(id uint32) []byte {
		return master.Wrap(crypto.Key{Point: point, ID: id, Secret: key.Secret})
	})
	if err != nil {
		return err
	}
	secret := base64.StdEncoding.EncodeToString(key.Secret[:])
	return c.say(map[string]any{"point": point, "key_id": key.ID, "key": secret},
		"# For the configuration of the point's agent. The key is not shown again.\npoint = %q\nkey_id = %d\nkey = %q",
		point, key.ID, secret)
}

func newPointRevoke() *cobra.Command {
	var keyID uint32
	const short = "Refuse a point for good, or with --key-id one of its keys"
	cmd := onPoint("revoke NAME", short, func(c *call, name string) error {
		what := "point " + name
		if c.Flags().Changed("key-id") {
			what = fmt.Sprintf("key %d of point %s", keyID, name)
			if keyID == 0 {
				return cli.Usage(errors.New("--key-id counts from 1"))
			}
		}
		err := c.db.RevokePoint(c.Context(), name, keyID)
		if errors.Is(err, store.ErrNotFound) && keyID != 0 {
			return fmt.Errorf("%s is not live; 'syncgate point list' shows the live keys", what)
		}
		if err != nil {
			return err
		}
		return c.say(map[string]any{"point": name, "key_id": keyID, "revoked": true},
			"%s is revoked; a running server closes its sessions within a second", what)
	})
	cmd.Flags().Uint32Var(&keyID, "key-id", 0, "only this key")
	return cmd
}

func newPointLegacy() *cobra.Command {
	const short = "Allow or refuse the v1 wire to a point that has used the v2 wire"
	return onPoint("legacy NAME allow|refuse", short, func(c *call, name string) error {
		allow := c.args[1] == "allow"
		if !allow && c.args[1] != "refuse" {
			return cli.Usage(fmt.Errorf("%q is neither allow nor refuse", c.args[1]))
		}
		if err := c.db.AllowLegacy(c.Context(), name, allow); err != nil {
			return err
		}
		verdict := map[bool]string{true: "allowed", false: "refused"}[allow]
		return c.say(map[string]any{"point": name, "allow_legacy": allow},
			"point %s: the v1 wire after the v2 wire: %s", name, verdict)
	})
}

func newPointList() *cobra.Command {
	const short = "List the points, their keys, and which wire and key each last used"
	return onCentre("list", short, textOrJSON, func(c *call) error {
		points, err := c.db.Points(c.Context())
		if err != nil {
			return err
		}
		const heading = "POINT\tSTATE\tLIVE KEYS\tLAST KEY\tLAST WIRE\tLAST SEEN\tV1 WIRE\tNOTE"
		return list(c, points, heading, func(p *store.Point) []any {
			state, legacy := "enrolled", ""
			if !p.RevokedAt.IsZero() {
				state = "revoked"
			}
			if p.AllowLegacy {
				legacy = "allowed"
			}
			var live []string
			var lastKey any = ""
			var lastUse time.Time
			for _, k := range p.Keys {
				if k.RevokedAt.IsZero() {
					live = append(live, fmt.Sprint(k.ID))
				}
				if k.LastUsedAt.After(lastUse) {
					lastKey, lastUse = k.ID, k.LastUsedAt
				}
			}
			return []any{p.Point, state, strings.Join(live, ","), lastKey, p.Wire, p.SeenAt, legacy, p.Note}
		})
	})
}

// masterKey reads the key that encrypts the points' keys at rest, or makes one when no key is stored yet. A key that
// opens none of those that are stored is refused: it is another one, or another database. Every error that is not the
// database's is a *config.Error that names the file.
func masterKey(ctx context.Context, path string, db *database.Database) (*crypto.MasterKey, error) {
	stored, err := db.Keys(ctx)
	if err != nil {
		return nil, err
	}
	key, err := readMasterKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		if len(stored) > 0 {
			err = fmt.Errorf("is missing, and the database has %s sealed under it; put the file back from its backup",
				text.Plural(len(stored), "key"))
		} else if err = makeMasterKey(path); err == nil {
			key, err = readMasterKey(path)
		}
	}
	if opened := opens(key, stored); err == nil && opened == 0 && len(stored) > 0 {
		err = fmt.Errorf("opens none of the database's %s; it is not the key that sealed them, or dsn names "+
			"another database",
			text.Plural(len(stored), "key"))
	}
	if err != nil {
		return nil, bad("master_key_file "+path, err)
	}
	return key, nil
}

// opens counts the stored keys that the master key opens.
func opens(master *crypto.MasterKey, stored []store.WrappedKey) (n int) {
	if master == nil {
		return 0
	}
	for _, k := range stored {
		if _, err := master.Unwrap(k.Point, k.ID, k.Wrapped); err == nil {
			n++
		}
	}
	return n
}

func readMasterKey(path string) (*crypto.MasterKey, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	const most = 256 // bytes; a key has 45, and more than this is another file
	switch mode := info.Mode(); {
	case !mode.IsRegular() || info.Size() > most:
		return nil, errors.New("is no master key; name the file that has it, or a missing file to have a key made")
	case mode.Perm()&0o077 != 0:
		return nil, fmt.Errorf("others may read it (mode %04o); chmod 600 it", mode.Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return crypto.ParseMasterKey(text)
}

// makeMasterKey links a finished file into place. Of two processes that start at once the second reads the first one's
// key, and neither reads half a key.
func makeMasterKey(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".master-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // nobody reads a file that is left
	_, err = f.Write(crypto.GenerateMasterKey())
	// The key must survive whatever the database with the wrapped keys survives.
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
		fmt.Fprintf(c.out,
			"%s sealed under the new key in %s. Sessions go on.\nRestart 'syncgate serve' before the next "+
				"'syncgate point add', and back up the new file.\n", text.Plural(n, "key"), path)
		return nil
	})
}
