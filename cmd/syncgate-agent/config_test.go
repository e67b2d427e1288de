package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"syncgate/agent"
	"syncgate/cmd/internal/cli"
	"syncgate/cmd/internal/config"
	"syncgate/internal/limit"
)

// What `syncgate-agent config` prints is a file with every setting and the default and bounds of every number, as the
// agent declares them; the settings set the agent's options.
func TestExample(t *testing.T) {
	for _, name := range config.Names(&settings{}) {
		if !strings.Contains(example(), "\n"+name+" = ") {
			t.Errorf("setting %s is not in the file", name)
		}
	}
	var s settings
	o := &agent.Options{}
	if _, err := config.Load(&s, example(), limits(o), config.Source{}); err != nil {
		t.Fatal(err)
	}
	limits(o).Apply(&s)
	var want agent.Options
	if err := limit.Fill("agent", want.Limits()); err != nil {
		t.Fatal(err)
	}
	if o.Interval != want.Interval || o.FullInterval != want.FullInterval || o.BatchRows != want.BatchRows ||
		o.OutboxBatches != want.OutboxBatches {
		t.Errorf("the options are %+v, not %+v", o, want)
	}
	if !strings.Contains(example(), "\nbatch_rows = 1000 # 1 to 200000\n") {
		t.Errorf("no bounds in\n%s", example())
	}
}

// A setting that no command could use is told by check, too.
func TestCheckLogLevel(t *testing.T) {
	t.Setenv("SYNCGATE_AGENT_POINT", "p")
	t.Setenv("SYNCGATE_AGENT_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	t.Setenv("SYNCGATE_AGENT_LOG_LEVEL", "loud")
	root := newRoot()
	root.SetArgs([]string{"check", "--server", "127.0.0.1:1", "--data-dir", t.TempDir()})
	root.SetOut(io.Discard)
	if err := root.Execute(); exitCode(err) != cli.ExitConfig || !strings.Contains(err.Error(), "_LOG_LEVEL: log_level") {
		t.Errorf("%v", err)
	}
}

// A tool makes no directory where the agent has none, which would then be the account's that called it.
func TestToolMakesNoDirectory(t *testing.T) {
	t.Setenv("SYNCGATE_AGENT_POINT", "p")
	t.Setenv("SYNCGATE_AGENT_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	dir := filepath.Join(t.TempDir(), "data")
	root := newRoot()
	root.SetArgs([]string{"status", "--data-dir", dir})
	if err := root.Execute(); err == nil || !strings.Contains(err.Error(), "no private database") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: %v", dir, err)
	}
}
