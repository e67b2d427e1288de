package main

import (
	"cmp"
	_ "embed" // settings.toml
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"syncgate/agent"
	"syncgate/cmd/internal/cli"
	"syncgate/cmd/internal/config"
	"syncgate/cmd/internal/database"
	"syncgate/internal/limit"
)

// settings are those of `syncgate-agent`. settings.toml has their meaning.
type settings struct {
	origin *config.Origin

	Server string `toml:"server"`
	Point  string `toml:"point"`
	KeyID  uint32 `toml:"key_id"`
	Key    string `toml:"key"`

	DSN          string `toml:"dsn"`
	Zone         string `toml:"time_zone"`
	DataDir      string `toml:"data_dir"`
	FileDir      string `toml:"file_dir"`
	AcceptUnsafe bool   `toml:"accept_unsafe_database"`

	Interval      config.Duration `toml:"interval"`
	FullInterval  config.Duration `toml:"full_interval"`
	ReportEvery   config.Duration `toml:"report_interval"`
	BatchRows     int             `toml:"batch_rows"`
	OutboxBatches int             `toml:"outbox_batches"`
	OutboxBytes   config.Size     `toml:"outbox_bytes"`
	OutboxFull    string          `toml:"outbox_full"`
	MaxMessage    config.Size     `toml:"max_message"`
	Uncompressed  bool            `toml:"uncompressed"`
	Metrics       string          `toml:"metrics"`
	LogLevel      string          `toml:"log_level"`
	LogFormat     string          `toml:"log_format"`
}

// limits name the option that each numeric setting sets, which has the default and the bounds.
func limits(o *agent.Options) config.Limits {
	all := o.Limits()
	return config.Limits{
		"interval":        limit.Find(all, "Interval"),
		"full_interval":   limit.Find(all, "FullInterval"),
		"report_interval": limit.Find(all, "ReportEvery"),
		"batch_rows":      limit.Find(all, "BatchRows"),
		"outbox_batches":  limit.Find(all, "OutboxBatches"),
		"outbox_bytes":    limit.Find(all, "OutboxBytes"),
		"max_message":     limit.Find(all, "MaxMessage"),
	}
}

//go:embed settings.toml
var settingsFile string

// example is a file with every setting, its meaning, its default and its bounds.
func example() string { return limits(new(agent.Options)).Fill(settingsFile) }

// installed is where the package puts the settings.
const installed = "/etc/syncgate-agent/syncgate-agent.toml"

// checkFile is the command config check.
func checkFile(path string) (warnings []string, err error) {
	s, _, err := (&flags{file: path}).load()
	if err != nil {
		return nil, err
	}
	if s.DSN != "" {
		err = database.CheckDSN(s.DSN)
	}
	return s.origin.Unknown(), s.origin.Locate(err)
}

// reread takes log_level from the configuration, the one setting that can change while the agent runs.
func (f *flags) reread(log zerolog.Logger) {
	s, _, err := f.load()
	if err != nil {
		log.Error().Err(err).Msg("HUP: the configuration has a mistake and is not used")
		return
	}
	log.Info().Str("log_level", s.LogLevel).Msg("HUP: log_level read again; other settings need a restart")
}

// flags are those of every command.
type flags struct{ file, dsn, dataDir, server, format string }

func (f *flags) add(c *cobra.Command) {
	all := c.Flags()
	all.StringVar(&f.file, "config", config.File("SYNCGATE_AGENT_CONFIG", installed),
		"configuration `file`, TOML (see 'syncgate-agent config')")
	all.StringVar(&f.server, "server", "", "`address` of the server, host:port (default 127.0.0.1:11366)")
	all.StringVar(&f.dsn, "dsn", "", "the point's database; without one a private MariaDB under --data-dir")
	all.StringVar(&f.dataDir, "data-dir", "",
		"directory of the private database and files (default ./syncgate-agent-data)")
}

// formatted adds the flag --format to a command.
func (f *flags) formatted(c *cobra.Command) *cobra.Command {
	c.Flags().StringVar(&f.format, "format", "text", "text, json")
	return c
}

// load reads the settings: defaults, file, environment, then these flags. It sets the level of the log.
func (f *flags) load() (*settings, *agent.Options, error) {
	s, o := &settings{}, &agent.Options{}
	if err := cli.OneOf("format", cmp.Or(f.format, "text"), "text", "json"); err != nil {
		return nil, nil, err
	}
	var err error
	s.origin, err = config.Load(s, example(), limits(o), config.Source{Path: f.file, Prefix: "SYNCGATE_AGENT_",
		Environ: os.Environ(), Others: []string{"SYNCGATE_AGENT_CONFIG"}, Secrets: []string{"key", "dsn"}})
	if err != nil {
		return nil, nil, err
	}
	s.Server = cmp.Or(f.server, s.Server)
	s.DSN = cmp.Or(f.dsn, s.DSN)
	s.DataDir = cmp.Or(f.dataDir, s.DataDir)
	s.FileDir = cmp.Or(s.FileDir, filepath.Join(s.DataDir, "files"))
	if err := s.take(o); err != nil {
		return nil, nil, s.origin.Locate(err)
	}
	limits(o).Apply(s)
	return s, o, nil
}

// take checks the settings that are not numbers and sets the agent's options.
func (s *settings) take(o *agent.Options) error {
	if err := agent.CheckServers(s.Server); err != nil {
		return &config.Error{Place: "server", Problem: err.Error()}
	}
	if s.Point == "" || s.Key == "" {
		return &config.Error{Place: "point, key_id, key",
			Problem: "are required; 'syncgate point add NAME' on the server prints them"}
	}
	if s.OutboxFull != "stop" && s.OutboxFull != "drop" {
		return &config.Error{Place: "outbox_full", Problem: fmt.Sprintf("%q is neither stop nor drop", s.OutboxFull)}
	}
	o.DropOldest = s.OutboxFull == "drop"
	secret, err := base64.StdEncoding.DecodeString(s.Key)
	if err != nil || copy(o.Key[:], secret) != len(o.Key) || len(secret) != len(o.Key) {
		return &config.Error{Place: "key",
			Problem: "is not 32 bytes in base64, as 'syncgate point add' prints them"}
	}
	o.Server, o.Point, o.KeyID, o.DataDir, o.Uncompressed = s.Server, s.Point, s.KeyID, s.DataDir, s.Uncompressed
	if err := cli.CheckFormat(s.LogFormat); err != nil {
		return err
	}
	return cli.SetLevel(s.LogLevel)
}
