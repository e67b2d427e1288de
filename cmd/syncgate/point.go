package main

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"syncgate/cmd/internal/cli"
	"syncgate/cmd/internal/config"
	"syncgate/crypto"
	"syncgate/store"
)

// pointCommand is what the point commands share: the settings and the form of output.
type pointCommand struct {
	settings
	format string
}

func newPoint() *cobra.Command {
	c := &cobra.Command{
		Use:   "point",
		Short: "Enrol detection points, change their keys, see what they last used",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newPointAdd(), newPointList(), newPointRotate(), newPointRevoke(), newPointLegacy())
	return c
}

// command makes a subcommand whose run has the central database open.
func (p *pointCommand) command(use, short string, args int, run func(c *cobra.Command, cfg *config.Server, db *centre, args []string) error) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.ExactArgs(args)}
	c.RunE = func(c *cobra.Command, args []string) (err error) {
		if err := cli.OneOf("format", p.format, "text", "json"); err != nil {
			return err
		}
		if len(args) > 0 {
			if err := checkPointName(args[0]); err != nil {
				return cli.Usage(err)
			}
		}
		cfg, err := p.load()
		if err != nil {
			return err
		}
		db, err := openCentre(c.Context(), cfg, zerolog.Nop(), true, nil)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, db.Close()) }()
		return run(c, cfg, db, args)
	}
	p.flags(c)
	c.Flags().StringVar(&p.format, "format", "text", "text or json")
	return c
}

// checkPointName keeps out what the wire cannot carry and what a terminal would not show.
func checkPointName(name string) error {
	switch {
	case name == "" || len(name) > 64:
		return fmt.Errorf("a point's name has 1 to 64 bytes, not %d", len(name))
	case name == "*":
		return errors.New("* stands for every point and cannot be the name of one")
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return errors.New("a point's name is UTF-8 without control characters")
	}
	return nil
}

func newPointAdd() *cobra.Command {
	p := &pointCommand{}
	var note string
	c := p.command("add NAME", "Enrol a point and print what its agent's configuration needs, once", 1,
		func(c *cobra.Command, cfg *config.Server, db *centre, args []string) error {
			return p.newKey(c, cfg, args[0], func(wrap func(uint32) ([]byte, error)) (uint32, error) {
				return db.AddPoint(c.Context(), args[0], note, wrap)
			})
		})
	c.Flags().StringVar(&note, "note", "", "where it is, who looks after it")
	return c
}

func newPointRotate() *cobra.Command {
	p := &pointCommand{}
	return p.command("rotate NAME", "Give a point another key; the one before stays valid until it is revoked", 1,
		func(c *cobra.Command, cfg *config.Server, db *centre, args []string) error {
			return p.newKey(c, cfg, args[0], func(wrap func(uint32) ([]byte, error)) (uint32, error) {
				return db.RotatePoint(c.Context(), args[0], wrap)
			})
		})
}

// newKey makes a key, has save store it wrapped, and prints it: nobody can read it again.
func (p *pointCommand) newKey(c *cobra.Command, cfg *config.Server, name string, save func(func(uint32) ([]byte, error)) (uint32, error)) error {
	master, err := masterKey(cfg.MasterKey)
	if err != nil {
		return err
	}
	key := crypto.Key{Point: name}
	if _, err := io.ReadFull(rand.Reader, key.Secret[:]); err != nil {
		return err
	}
	key.ID, err = save(func(id uint32) ([]byte, error) {
		return master.Wrap(crypto.Key{Point: name, ID: id, Secret: key.Secret})
	})
	if err != nil {
		return err
	}
	secret := base64.StdEncoding.EncodeToString(key.Secret[:])
	if p.format == "json" {
		return json.NewEncoder(c.OutOrStdout()).Encode(map[string]any{"point": name, "key_id": key.ID, "key": secret})
	}
	_, err = fmt.Fprintf(c.OutOrStdout(), "# For the configuration of the point's agent. The key is not shown again.\npoint = %q\nkey_id = %d\nkey = %q\n", name, key.ID, secret)
	return err
}

func newPointRevoke() *cobra.Command {
	p := &pointCommand{}
	var keyID uint32
	c := p.command("revoke NAME", "Refuse a point from now on, or with --key-id one of its keys", 1,
		func(c *cobra.Command, _ *config.Server, db *centre, args []string) error {
			if c.Flags().Changed("key-id") && keyID == 0 {
				return cli.Usage(errors.New("--key-id counts from 1"))
			}
			if err := db.RevokePoint(c.Context(), args[0], keyID); err != nil {
				return err
			}
			if p.format == "json" {
				return json.NewEncoder(c.OutOrStdout()).Encode(map[string]any{"point": args[0], "key_id": keyID, "revoked": true})
			}
			what := "point " + args[0]
			if keyID != 0 {
				what = fmt.Sprintf("key %d of point %s", keyID, args[0])
			}
			_, err := fmt.Fprintf(c.OutOrStdout(), "%s is revoked; a running server closes its sessions within a second\n", what)
			return err
		})
	c.Flags().Uint32Var(&keyID, "key-id", 0, "only this key")
	return c
}

func newPointLegacy() *cobra.Command {
	p := &pointCommand{}
	return p.command("legacy NAME allow|refuse", "Say whether a point that has spoken the modern wire may go back to the seed-era one", 2,
		func(c *cobra.Command, _ *config.Server, db *centre, args []string) error {
			if args[1] != "allow" && args[1] != "refuse" {
				return cli.Usage(fmt.Errorf("%q is neither allow nor refuse", args[1]))
			}
			return db.AllowLegacy(c.Context(), args[0], args[1] == "allow")
		})
}

func newPointList() *cobra.Command {
	p := &pointCommand{}
	return p.command("list", "List the points, their keys, and which wire and key each last used", 0,
		func(c *cobra.Command, _ *config.Server, db *centre, _ []string) error {
			points, err := db.Points(c.Context())
			if err != nil {
				return err
			}
			if p.format == "json" {
				return writePointsJSON(c.OutOrStdout(), points)
			}
			return writePoints(c.OutOrStdout(), points)
		})
}

// lastUsed is the wire a point spoke last, and when; empty when it never did.
func lastUsed(p *store.Point) (wire store.Wire, at time.Time) {
	switch {
	case p.ModernSeenAt.IsZero() && p.LegacySeenAt.IsZero():
		return "", time.Time{}
	case p.LegacySeenAt.After(p.ModernSeenAt):
		return store.Legacy, p.LegacySeenAt
	default:
		return store.Modern, p.ModernSeenAt
	}
}

// lastKey is the id of the key used last; 0 when none ever was.
func lastKey(p *store.Point) uint32 {
	var last store.PointKey
	for _, k := range p.Keys {
		if k.LastUsedAt.After(last.LastUsedAt) {
			last = k
		}
	}
	return last.ID
}

func writePoints(w io.Writer, points []store.Point) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "POINT\tSTATE\tLIVE KEYS\tLAST KEY\tLAST WIRE\tLAST SEEN\tNOTE")
	for i := range points {
		p := &points[i]
		state := "enrolled"
		if !p.RevokedAt.IsZero() {
			state = "revoked"
		}
		var live []string
		for _, k := range p.Keys {
			if k.RevokedAt.IsZero() {
				live = append(live, fmt.Sprint(k.ID))
			}
		}
		wire, at := lastUsed(p)
		key := "-"
		if id := lastKey(p); id != 0 {
			key = fmt.Sprint(id)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", p.Point, state, orDash(strings.Join(live, ",")), key, orDash(string(wire)), stamp(at), p.Note)
	}
	return t.Flush()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format(time.RFC3339)
}

func writePointsJSON(w io.Writer, points []store.Point) error {
	type key struct {
		ID       uint32    `json:"id"`
		Created  time.Time `json:"created"`
		Revoked  time.Time `json:"revoked,omitzero"`
		LastUsed time.Time `json:"last_used,omitzero"`
	}
	type point struct {
		Point       string     `json:"point"`
		Note        string     `json:"note,omitempty"`
		Created     time.Time  `json:"created"`
		Revoked     time.Time  `json:"revoked,omitzero"`
		LastWire    store.Wire `json:"last_wire,omitempty"`
		LastKey     uint32     `json:"last_key,omitempty"`
		LastSeen    time.Time  `json:"last_seen,omitzero"`
		AllowLegacy bool       `json:"allow_legacy"`
		Keys        []key      `json:"keys"`
	}
	out := make([]point, len(points))
	for i := range points {
		p := &points[i]
		wire, at := lastUsed(p)
		out[i] = point{p.Point, p.Note, p.CreatedAt, p.RevokedAt, wire, lastKey(p), at, p.AllowLegacy, make([]key, len(p.Keys))}
		for j, k := range p.Keys {
			out[i].Keys[j] = key{k.ID, k.CreatedAt, k.RevokedAt, k.LastUsedAt}
		}
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(out)
}
