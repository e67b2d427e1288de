package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/rs/zerolog"
)

// journalWriter sends lines of zerolog to the systemd journal. A field point becomes POINT, so that `journalctl
// POINT=point-07` finds the lines of a point. The message has the fields as text too, for who reads without -o verbose.
type journalWriter struct{ otherwise io.Writer }

var priorities = map[string]journal.Priority{"trace": journal.PriDebug, "debug": journal.PriDebug,
	"info": journal.PriInfo,
	"warn": journal.PriWarning, "error": journal.PriErr, "fatal": journal.PriCrit, "panic": journal.PriEmerg}

// Write takes one line.
func (w journalWriter) Write(line []byte) (int, error) {
	priority, message, fields := entry(line)
	if journal.Send(message, priority, fields) != nil {
		return w.otherwise.Write(line)
	}
	return len(line), nil
}

// entry is what the journal gets of a line.
func entry(line []byte) (priority journal.Priority, message string, fields map[string]string) {
	var all map[string]any
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	if d.Decode(&all) != nil {
		return journal.PriNotice, strings.TrimSpace(string(line)), nil
	}
	level, _ := all[zerolog.LevelFieldName].(string)
	priority, known := priorities[level]
	if !known {
		priority = journal.PriNotice
	}
	message, _ = all[zerolog.MessageFieldName].(string)
	for _, name := range []string{zerolog.LevelFieldName, zerolog.MessageFieldName, zerolog.TimestampFieldName} {
		delete(all, name)
	}
	fields = map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		value := fmt.Sprint(all[name])
		fields[strings.ToUpper(strings.TrimLeft(name, "_0123456789"))] = value
		if message += " " + name + "="; value == "" || strings.ContainsAny(value, " \"") {
			value = fmt.Sprintf("%q", value)
		}
		message += value
	}
	return priority, message, fields
}

// toJournal reports whether w is connected to the systemd journal.
func toJournal(w io.Writer) bool {
	connected, err := journal.StderrIsJournalStream()
	return err == nil && connected && w == io.Writer(os.Stderr)
}
