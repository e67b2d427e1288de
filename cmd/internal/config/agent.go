package config

import "time"

// Agent holds the settings of `syncgate-agent`.
type Agent struct {
	Server string `toml:"server" comment:"Address of the server, host:port."`
	Point  string `toml:"point" comment:"Name of this detection point, as in syncgate point add NAME."`
	KeyID  uint32 `toml:"key_id" comment:"Number of the key, as point add printed it."`
	Key    string `toml:"key" comment:"The key in base64, as point add printed it. Keep this file at mode 0600."`

	DSN          string `toml:"dsn" comment:"The point's own database. Empty: a private MariaDB under data_dir."`
	DataDir      string `toml:"data_dir" comment:"Where the private database and received files are kept."`
	FileDir      string `toml:"file_dir" comment:"Where rules with the operation file may write. Empty: data_dir/files."`
	AcceptUnsafe bool   `toml:"accept_unsafe_database" comment:"Start although the database may lose what was acknowledged (not durable, not InnoDB)."`

	Interval     Duration `toml:"interval" comment:"Pause between two rounds of a rule that goes on from where it was."`
	FullInterval Duration `toml:"full_interval" comment:"Pause between two rounds of a rule that reads everything each time."`
	BatchRows    int      `toml:"batch_rows" comment:"Rows of one upload at most."`
	OutboxRows   int      `toml:"outbox_batches" comment:"Uploads that may wait for the server; over it collecting pauses."`
	LogLevel     string   `toml:"log_level" comment:"trace, debug, info, warn or error."`
	LogFormat    string   `toml:"log_format" comment:"json, console, or auto: console on a terminal, json elsewhere."`
}

// DefaultAgent is a configuration that lacks only what point add prints.
func DefaultAgent() *Agent {
	return &Agent{
		Server:       "127.0.0.1:11366",
		DataDir:      "./syncgate-agent-data",
		Interval:     Duration(10 * time.Second),
		FullInterval: Duration(time.Minute),
		BatchRows:    1000,
		OutboxRows:   10000,
		LogLevel:     "info",
		LogFormat:    "auto",
	}
}
