package cli

import (
	"reflect"
	"testing"

	"github.com/coreos/go-systemd/v22/journal"
)

func TestJournalEntry(t *testing.T) {
	priority, message, fields := entry([]byte(`{"level":"warn","time":"2026-01-02T03:04:05.000Z","point":"point-07",` +
		`"rows":12345678901,"error":"a \"b\"","message":"rule failing"}` + "\n"))
	if priority != journal.PriWarning || message != `rule failing error="a \"b\"" point=point-07 rows=12345678901` ||
		!reflect.DeepEqual(fields, map[string]string{"POINT": "point-07", "ROWS": "12345678901", "ERROR": `a "b"`}) {
		t.Error(priority, message, fields)
	}
	if _, message, fields := entry([]byte("panic: no JSON\n")); message != "panic: no JSON" || fields != nil {
		t.Error(message, fields)
	}
}
