// Command syncgate keeps the tables of many detection points in step with one central database.
package main

import (
	"os"

	"github.com/spf13/cobra"

	"syncgate/cmd/internal/cli"
)

func main() { os.Exit(cli.Main(newRoot())) }

func newRoot() *cobra.Command {
	root := cli.Group("syncgate", "Keep the tables of many detection points in step with one central database",
		newServe(), newDemo(), newMigrate(), newPoint(), newKeyCommand(), newRules(), newQuarantine(), newConflicts(),
		newStatus(), newPoints(), newConnections(), newSyncNow(), newTap(), newDrain(), newReload(), newLogLevel(),
		newDoctor(), newExplainError(),
		cli.NewConfig(example(), checkFile))
	root.Version = cli.Version()
	root.Long = `syncgate keeps the tables of many detection points in step with one central database.

Agents connect to 'syncgate serve'. Rows of the table sync_control say which tables are synced,
in which direction and by which SQL. Without any configuration syncgate runs a private MariaDB.
'syncgate demo' shows everything on this machine.`
	return root
}
