package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"syncgate/cmd/internal/cli"
	"syncgate/cmd/internal/config"
	"syncgate/cmd/internal/gateway"
	"syncgate/internal/pyliteral"
	"syncgate/protocol"
)

// legacyOptions are those of the seed-era listener; nil when it is not configured.
func legacyOptions(cfg *config.Server) (*gateway.LegacyOptions, error) {
	if cfg.ListenLegacy == "" {
		return nil, nil
	}
	l := cfg.Legacy
	o := &gateway.LegacyOptions{Listen: cfg.ListenLegacy}
	var err error
	if o.Key, err = secret(l.Key); err != nil || len(o.Key) == 0 {
		return nil, place("legacy.key", errors.Join(err, errors.New("is needed: 16, 24 or 32 bytes as hex:… or text:…")))
	}
	if o.IV, err = secret(l.IV); err != nil {
		return nil, place("legacy.iv", err)
	}
	if l.TokenKey == "" {
		return nil, place("legacy.token_key", errors.New("is needed: the text that ends what a token is the MD5 of"))
	}
	o.TokenKey, o.Window, o.Names = l.TokenKey, l.Window.Std(), l.Names
	if len(l.Networks) == 0 {
		return nil, place("legacy.networks", errors.New("is needed: the networks its agents connect from, as in 10.1.0.0/16"))
	}
	for _, text := range l.Networks {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, place("legacy.networks", err)
		}
		o.Networks = append(o.Networks, p.Masked())
	}
	if o.Zone, err = time.LoadLocation(l.Zone); err != nil {
		return nil, place("legacy.time_zone", err)
	}
	if err := cli.OneOf("dialect", l.Dialect, "auto", "python2", "python3"); err != nil {
		return nil, place("legacy.dialect", err)
	}
	if l.Dialect != "auto" {
		dialect := pyliteral.Python2
		if l.Dialect == "python3" {
			dialect = pyliteral.Python3
		}
		o.Dialect = func(string) (pyliteral.Dialect, bool) { return dialect, true }
	}
	if _, err := protocol.NewLegacy(withChecks(o.LegacyOptions)); err != nil {
		return nil, place("legacy", err)
	}
	return o, nil
}

// withChecks fills in what the gateway sets later, so that the settings can be tried now.
func withChecks(o protocol.LegacyOptions) protocol.LegacyOptions {
	o.Allow = func(string) bool { return false }
	o.Clock = time.Now
	return o
}

// secret reads hex:… or text:…; nothing is nil.
func secret(text string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	if plain, ok := strings.CutPrefix(text, "text:"); ok {
		return []byte(plain), nil
	}
	digits, ok := strings.CutPrefix(text, "hex:")
	if !ok {
		return nil, errors.New("begins with neither hex: nor text:")
	}
	b, err := hex.DecodeString(digits)
	if err != nil {
		return nil, fmt.Errorf("after hex: %w", err)
	}
	return b, nil
}
