package main

import (
	"cmp"
	_ "embed" // settings.toml
	"encoding/base64"
	"net"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"syncgate/agent"
	"syncgate/cmd/internal/config"
	"syncgate/internal/limit"
)

// settings are those of `syncgate-agent`. settings.toml has their meaning.
type settings struct {
	Server string `toml:"server"`
	Point  string `toml:"point"`
	KeyID  uint32 `toml:"key_id"`
	Key    string `toml:"key"`

	DSN          string `toml:"dsn"`
	DataDir      string `toml:"data_dir"`
	FileDir      string `toml:"file_dir"`
	AcceptUnsafe bool   `toml:"accept_unsafe_database"`

	Interval      config.Duration `toml:"interval"`
	FullInterval  config.Duration `toml:"full_interval"`
	BatchRows     int             `toml:"batch_rows"`
	OutboxBatches int             `toml:"outbox_batches"`
	LogLevel      string          `toml:"log_level"`
	LogFormat     string          `toml:"log_format"`
}

// limits name the option that each numeric setting sets, which has the default and the bounds.
func limits(o *agent.Options) config.Limits {
	all := o.Limits()
	return config.Limits{
		"interval":       limit.Find(all, "Interval"),
		"full_interval":  limit.Find(all, "FullInterval"),
		"batch_rows":     limit.Find(all, "BatchRows"),
		"outbox_batches": limit.Find(all, "OutboxBatches"),
	}
}

//go:embed settings.toml
var settingsFile string

// example is a file with every setting, its meaning, its default and its bounds.
func example() string { return limits(new(agent.Options)).Fill(settingsFile) }

// flags are those of both commands.
type flags struct{ file, dsn, dataDir, server string }

func (f *flags) add(c *cobra.Command) {
	all := c.Flags()
	all.StringVar(&f.file, "config", os.Getenv("SYNCGATE_AGENT_CONFIG"),
		"configuration `file`, TOML (see 'syncgate-agent config')")
	all.StringVar(&f.server, "server", "", "`address` of the server, host:port (default 127.0.0.1:11366)")
	all.StringVar(&f.dsn, "dsn", "", "the point's database; without one a private MariaDB under --data-dir")
	all.StringVar(&f.dataDir, "data-dir", "",
		"directory of the private database and files (default ./syncgate-agent-data)")
}

// load reads the settings: defaults, file, environment, then these flags.
func (f *flags) load() (*settings, *agent.Options, error) {
	s, o := &settings{}, &agent.Options{}
	if err := config.Load(s, example(), limits(o), f.file, "SYNCGATE_AGENT_", os.LookupEnv); err != nil {
		return nil, nil, err
	}
	s.Server = cmp.Or(f.server, s.Server)
	s.DSN = cmp.Or(f.dsn, s.DSN)
	s.DataDir = cmp.Or(f.dataDir, s.DataDir)
	s.FileDir = cmp.Or(s.FileDir, filepath.Join(s.DataDir, "files"))
	if _, _, err := net.SplitHostPort(s.Server); err != nil {
		problem := err.Error() + " (an address looks like gateway.example.org:11366)"
		return nil, nil, &config.Error{Place: "server", Problem: problem}
	}
	if s.Point == "" || s.Key == "" {
		return nil, nil, &config.Error{Place: "point, key_id, key",
			Problem: "are required; 'syncgate point add NAME' on the server prints them"}
	}
	secret, err := base64.StdEncoding.DecodeString(s.Key)
	if err != nil || copy(o.Key[:], secret) != len(o.Key) || len(secret) != len(o.Key) {
		return nil, nil, &config.Error{Place: "key",
			Problem: "is not 32 bytes in base64, as 'syncgate point add' prints them"}
	}
	o.Server, o.Point, o.KeyID = s.Server, s.Point, s.KeyID
	limits(o).Apply(s)
	return s, o, nil
}
