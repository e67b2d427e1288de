package main

import (
	"cmp"
	_ "embed" // settings.toml
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"syncgate/admin"
	"syncgate/cmd/internal/cli"
	"syncgate/cmd/internal/config"
	"syncgate/cmd/internal/database"
	"syncgate/gateway"
	"syncgate/internal/limit"
	"syncgate/internal/pyliteral"
	"syncgate/protocol"
	"syncgate/store"
)

// settings are those of `syncgate`. settings.toml has their meaning.
type settings struct {
	origin *config.Origin

	Listen       string `toml:"listen"`
	ListenLegacy string `toml:"listen_legacy"`
	DSN          string `toml:"dsn"`
	Zone         string `toml:"time_zone"`
	DataDir      string `toml:"data_dir"`
	MasterKey    string `toml:"master_key_file"`
	FileDir      string `toml:"file_dir"`
	AcceptUnsafe bool   `toml:"accept_unsafe_database"`

	ServerID    string          `toml:"server_id"`
	AdminListen string          `toml:"admin_listen"`
	LogLevel    string          `toml:"log_level"`
	LogFormat   string          `toml:"log_format"`
	Drain       config.Duration `toml:"drain_timeout"`
	LogKeep     config.Duration `toml:"log_keep"`

	Loops             int             `toml:"loops"`
	Workers           int             `toml:"workers"`
	Queue             int             `toml:"queue"`
	QueuePerPoint     int             `toml:"queue_per_point"`
	MaxConnections    int             `toml:"max_connections"`
	MaxPerAddress     int             `toml:"max_connections_per_address"`
	MaxPerPoint       int             `toml:"max_connections_per_point"`
	MaxUnestablished  int             `toml:"max_unauthenticated"`
	MaxFrame          config.Size     `toml:"max_frame"`
	MaxMessage        config.Size     `toml:"max_message"`
	Uncompressed      bool            `toml:"uncompressed"`
	MaxInFlight       int             `toml:"max_in_flight"`
	Keepalive         config.Duration `toml:"keepalive"`
	MaxBufferedInAll  config.Size     `toml:"max_buffered"`
	MaxOutPerConn     config.Size     `toml:"max_outbound"`
	HandshakesPerSec  int             `toml:"handshakes_per_second"`
	DatabaseConns     int             `toml:"database_connections"`
	Downloads         int             `toml:"downloads"`
	DownloadBatchRows int             `toml:"download_rows"`
	RowWait           config.Duration `toml:"row_wait"`
	KeepChanges       config.Duration `toml:"keep_changes"`
	QuarantineRows    int             `toml:"quarantine_rows"`
	LedgerRows        int             `toml:"ledger_rows"`

	Admin  adminSettings  `toml:"admin"`
	Legacy legacySettings `toml:"legacy"`
}

// adminSettings are those of the status page and the control socket.
type adminSettings struct {
	AllowActions bool            `toml:"allow_actions"`
	Token        string          `toml:"token"`
	Socket       string          `toml:"socket"`
	SocketGroup  string          `toml:"socket_group"`
	Silent       config.Duration `toml:"silent_after"`
	MaxLag       config.Duration `toml:"max_lag"`
	PointMetrics bool            `toml:"point_metrics"`
}

// legacySettings are those of the v1 listener.
type legacySettings struct {
	Key      string            `toml:"key"`
	IV       string            `toml:"iv"`
	TokenKey string            `toml:"token_key"`
	Window   config.Duration   `toml:"window"`
	Packet   config.Size       `toml:"max_packet"`
	Reply    config.Size       `toml:"max_reply"`
	Zone     string            `toml:"time_zone"`
	Networks []string          `toml:"networks"`
	Dialect  string            `toml:"dialect"`
	Names    map[string]string `toml:"names"`
}

// options are those of the server, which the settings set.
type options struct {
	gateway gateway.Options
	legacy  gateway.LegacyOptions
	store   store.Options
	admin   admin.Options
}

// limits name the option that each numeric setting sets, which has the default and the bounds.
func (o *options) limits() config.Limits {
	all := append(o.gateway.Limits(), o.store.Limits()...)
	of := func(option string) limit.Limit { return limit.Find(all, option) }
	return config.Limits{
		"drain_timeout":               of("Drain"),
		"log_keep":                    of("KeepLog"),
		"loops":                       config.Auto(of("Loops")),
		"workers":                     config.Auto(of("Workers")),
		"queue":                       of("Queue"),
		"queue_per_point":             of("PerPoint"),
		"downloads":                   of("Downloads"),
		"database_connections":        config.Auto(limit.Find(o.store.Limits(), "MaxConns")),
		"max_connections":             of("MaxConns"),
		"max_connections_per_address": of("MaxPerAddress"),
		"max_connections_per_point":   of("PointConns"),
		"max_unauthenticated":         of("MaxUnestablished"),
		"max_frame":                   of("MaxFrame"),
		"max_message":                 of("MaxMessage"),
		"max_in_flight":               of("MaxInFlight"),
		"keepalive":                   of("Keepalive"),
		"max_buffered":                of("MaxBuffered"),
		"max_outbound":                of("MaxOutbound"),
		"handshakes_per_second":       of("Handshakes"),
		"download_rows":               of("MaxDownloadRows"),
		"row_wait":                    of("RowWait"),
		"keep_changes":                of("KeepChanges"),
		"quarantine_rows":             of("QuarantineRows"),
		"ledger_rows":                 of("LedgerRows"),
		"admin.silent_after":          limit.Find(o.admin.Limits(), "Silent"),
		"admin.max_lag":               limit.Find(o.admin.Limits(), "MaxLag"),
		"legacy.window":               limit.Find(o.legacy.Limits(), "Window"),
		"legacy.max_packet":           limit.Find(o.legacy.Limits(), "MaxPacket"),
		"legacy.max_reply":            limit.Find(o.legacy.Limits(), "MaxReply"),
	}
}

//go:embed settings.toml
var settingsFile string

// example is a file with every setting, its meaning, its default and its bounds.
func example() string { return new(options).limits().Fill(settingsFile) }

// checkAddresses returns a *config.Error for an address that cannot be listened on.
func (s *settings) checkAddresses() error {
	for name, address := range map[string]string{
		"listen": s.Listen, "listen_legacy": s.ListenLegacy, "admin_listen": s.AdminListen,
	} {
		host, _, err := net.SplitHostPort(address)
		if _, ip := netip.ParseAddr(host); err == nil && host != "" && name != "admin_listen" {
			err = ip // a name may have several addresses
		}
		if err != nil && (address != "" || name == "listen") {
			problem := fmt.Sprintf("%q is not an address such as 127.0.0.1:11366", address)
			return &config.Error{Place: name, Problem: problem}
		}
	}
	host, _, _ := net.SplitHostPort(s.AdminListen) // checked above
	if ip, err := netip.ParseAddr(host); s.AdminListen != "" && s.Admin.Token == "" && host != "localhost" &&
		(err != nil || !ip.IsLoopback()) {
		problem := s.AdminListen + " can be reached from other hosts; set admin.token, or listen on 127.0.0.1"
		return &config.Error{Place: "admin_listen", Problem: problem}
	}
	return nil
}

// installed is where the package puts the settings.
const installed = "/etc/syncgate/syncgate.toml"

// check returns an error for settings with which serve would not start, as far as that can be told without starting it.
func (s *settings) check() error {
	err := s.checkAddresses()
	if err == nil {
		err = cli.SetLevel(s.LogLevel)
	}
	if err == nil {
		err = cli.CheckFormat(s.LogFormat)
	}
	if err == nil && s.DSN != "" {
		err = database.CheckDSN(s.DSN)
	}
	if err == nil && s.ListenLegacy != "" {
		err = s.Legacy.set(&gateway.LegacyOptions{})
	}
	return s.origin.Locate(err)
}

// checkFile is the command config check.
func checkFile(path string) (warnings []string, err error) {
	s, err := (&flags{file: path}).load()
	if err != nil {
		return nil, err
	}
	return s.origin.Unknown(), s.check()
}

// databaseDir is where the private database is.
func (s *settings) databaseDir() string { return filepath.Join(s.DataDir, "db") }

// flags are those of every command that uses the database.
type flags struct{ file, dsn, dataDir string }

func (f *flags) add(c *cobra.Command) {
	all := c.Flags()
	all.StringVar(&f.file, "config", config.File("SYNCGATE_CONFIG", installed),
		"configuration `file`, TOML (see 'syncgate config')")
	all.StringVar(&f.dsn, "dsn", "", "central database; without one a private MariaDB under --data-dir")
	all.StringVar(&f.dataDir, "data-dir", "", "directory of keys, private database and files (default ./syncgate-data)")
}

// load reads the settings: defaults, file, environment, then these flags.
func (f *flags) load() (*settings, error) {
	s := &settings{}
	var err error
	s.origin, err = config.Load(s, example(), new(options).limits(), config.Source{
		Path: f.file, Prefix: "SYNCGATE_", Environ: os.Environ(),
		Others: []string{"SYNCGATE_CONFIG", "SYNCGATE_AGENT_", "SYNCGATE_TEST_", "SYNCGATE_BENCH_",
			"SYNCGATE_CHANGES_"},
		Secrets: []string{"dsn", "admin.token", "legacy.key", "legacy.iv", "legacy.token_key"},
	})
	if err != nil {
		return nil, err
	}
	s.DSN = cmp.Or(f.dsn, s.DSN)
	s.DataDir = cmp.Or(f.dataDir, s.DataDir)
	s.MasterKey = cmp.Or(s.MasterKey, filepath.Join(s.DataDir, "master.key"))
	s.FileDir = cmp.Or(s.FileDir, filepath.Join(s.DataDir, "files"))
	s.Admin.Socket = cmp.Or(s.Admin.Socket, filepath.Join(s.DataDir, "control.sock"))
	return s, nil
}

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
