package main

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"syncgate/cmd/internal/config"
	"syncgate/gateway"
	"syncgate/internal/pyliteral"
	"syncgate/protocol"
)

// set sets the options of the v1 listener. Every error is a *config.Error that names the setting.
func (l *legacySettings) set(o *gateway.LegacyOptions) (err error) {
	o.TokenKey, o.Names = l.TokenKey, l.Names
	if o.Key, err = secret(l.Key, 16, 24, 32); err != nil {
		return bad("legacy.key", err)
	}
	if l.IV != "" {
		if o.IV, err = secret(l.IV, 16); err != nil {
			return bad("legacy.iv", err)
		}
	}
	if l.TokenKey == "" {
		return bad("legacy.token_key", errors.New("is needed: the text that ends what a token is the MD5 of"))
	}
	if o.Zone, err = time.LoadLocation(l.Zone); err != nil {
		return bad("legacy.time_zone", err)
	}
	if len(l.Networks) == 0 {
		return bad("legacy.networks", errors.New("is needed: the networks its agents connect from, as in 10.1.0.0/16"))
	}
	for _, text := range l.Networks {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return bad("legacy.networks", fmt.Errorf("%q is not a network such as 10.1.0.0/16", text))
		}
		o.Networks = append(o.Networks, p.Masked())
	}
	if err := dialect(o, l.Dialect); err != nil {
		return bad("legacy.dialect", err)
	}
	// What is left to be wrong is the names. The gateway sets the other two itself.
	try := o.LegacyOptions
	try.Allow, try.Clock = func(string) bool { return false }, time.Now
	if _, err := protocol.NewLegacy(try); err != nil {
		return bad("legacy.names", err)
	}
	return nil
}

// dialect sets which Python replies are printed for: the one named, for every point; or, after auto, what each point's
// requests show, and the one named second until they do.
func dialect(o *gateway.LegacyOptions, text string) error {
	name, auto := strings.CutPrefix(text, "auto")
	if auto && name == "" {
		return nil // until it shows: Python 2, as most agents on the v1 wire
	}
	d, err := pyliteral.ParseDialect(strings.TrimPrefix(name, ":"))
	if err != nil || auto && !strings.HasPrefix(name, ":") {
		return fmt.Errorf("%q is none of python2, python3, python3.6 to python3.13, auto and auto:python3", text)
	}
	o.Dialect, o.FixedDialect = d, !auto
	return nil
}

// bad is the error of a setting that cannot be used.
func bad(setting string, err error) error {
	return &config.Error{Place: setting, Problem: err.Error()}
}

// secret reads hex:… or text:… of one of the lengths, in bytes.
func secret(text string, lengths ...int) (b []byte, err error) {
	kind, value, _ := strings.Cut(text, ":")
	switch kind {
	case "text":
		b = []byte(value)
	case "hex":
		if b, err = hex.DecodeString(value); err != nil {
			return nil, fmt.Errorf("after hex: %w", err)
		}
	}
	if !slices.Contains(lengths, len(b)) {
		of := strings.Trim(strings.ReplaceAll(fmt.Sprint(lengths), " ", ", "), "[]")
		return nil, fmt.Errorf("must be hex: or text: and %s bytes", of)
	}
	return b, nil
}
