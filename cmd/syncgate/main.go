// Command syncgate keeps the tables of many detection points in step with one central
// database.
package main

import (
	"cmp"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"syncgate/cmd/internal/cli"
	"syncgate/cmd/internal/config"
)

func main() { os.Exit(cli.Main(newRoot())) }

func newRoot() *cobra.Command {
	root := cli.Group("syncgate", "Keep the tables of many detection points in step with one central database",
		newServe(), newDemo(), newMigrate(), newPoint(), newRules(), newQuarantine(), newDoctor(), newExplainError(), newConfig())
	root.Version = cli.Version()
	root.Long = `syncgate keeps the tables of many detection points in step with one central database.

Agents connect to 'syncgate serve'. What is synced, in which direction and by which SQL
stands in rows of the table sync_control. Without any configuration it runs on a private
MariaDB of its own; 'syncgate demo' shows the whole of it on this machine.`
	return root
}

// settings are the flags that every command which meets the database has.
type settings struct {
	file    string
	dsn     string
	dataDir string
}

func (s *settings) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&s.file, "config", os.Getenv("SYNCGATE_CONFIG"), "configuration `file`, TOML (see 'syncgate config')")
	f.StringVar(&s.dsn, "dsn", "", "central database; without one a private MariaDB under --data-dir")
	f.StringVar(&s.dataDir, "data-dir", "", "directory of keys, private database and files (default ./syncgate-data)")
}

// load is the configuration: defaults, file, environment, then these flags.
func (s *settings) load() (*config.Server, error) {
	cfg := config.DefaultServer()
	if err := config.Load(cfg, s.file, "SYNCGATE_", os.LookupEnv); err != nil {
		return nil, err
	}
	cfg.DSN = cmp.Or(s.dsn, cfg.DSN)
	cfg.DataDir = cmp.Or(s.dataDir, cfg.DataDir)
	cfg.MasterKey = cmp.Or(cfg.MasterKey, filepath.Join(cfg.DataDir, "master.key"))
	cfg.FileDir = cmp.Or(cfg.FileDir, filepath.Join(cfg.DataDir, "files"))
	return cfg, nil
}
