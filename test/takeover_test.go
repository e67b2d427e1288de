package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"syncgate/internal/pyliteral"
	"syncgate/store/localdb/localdbtest"
)

var pageBlock = regexp.MustCompile("(?s)```(sql|sh|toml|text)\n(.*?)```")

// TestTakeover runs every block of docs/takeover.md in order. While the server runs, an agent of the original uploads
// and downloads.
func TestTakeover(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join(Root(t), "docs", "takeover.md"))
	if err != nil {
		t.Fatal(err)
	}
	dir, dsn := t.TempDir(), localdbtest.New(t)
	w := &takeover{t: t, dir: dir, dsn: dsn, db: Open(t, dsn)}
	for _, block := range pageBlock.FindAllStringSubmatch(string(page), -1) {
		switch kind, text := block[1], block[2]; kind {
		case "sql":
			for _, query := range strings.Split(strings.TrimSpace(text), ";\n") {
				w.db.Must(strings.TrimSuffix(query, ";"))
			}
		case "toml":
			w.configure(text)
		case "text":
			for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
				if _, says, ok := strings.Cut(line, "info "); ok {
					line = says
				}
				if !strings.Contains(w.said, line) {
					t.Errorf("migrate does not say %q:\n%s", line, w.said)
				}
			}
		case "sh":
			if strings.Contains(text, "syncgate serve") {
				w.serve()
			} else {
				w.run(text)
			}
		}
	}
	if n := w.db.Count("SELECT COUNT(*) FROM sync_control WHERE enabled = 1 AND sync_sql LIKE '%-- downside: " +
		"update%'"); n != 2 {
		t.Errorf("%d rows were converted, want that of the page and its copy", n)
	}
}

type takeover struct {
	t        testing.TB
	dir, dsn string
	db       *DB
	said     string // by the last shell
}

// configure writes the configuration with this database and free ports.
func (w *takeover) configure(text string) {
	w.t.Helper()
	text = regexp.MustCompile(`(?m)^dsn = .*$`).ReplaceAllLiteralString(text, fmt.Sprintf("dsn = %q", w.dsn))
	text = strings.Replace(text, "/var/lib/syncgate", w.dir, 1)
	text = regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllString(text, "127.0.0.1:0")
	if err := os.WriteFile(filepath.Join(w.dir, "syncgate.toml"), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *takeover) run(script string) {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), "bash", "-euc", script)
	cmd.Dir = w.dir
	cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(Program(w.t, "syncgate"))+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if w.said = string(out); err != nil {
		w.t.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// serve starts the server, and speaks to it as agents of the original do: one with a text for a userid and another case
// of a table, one with a number.
func (w *takeover) serve() {
	w.t.Helper()
	p := Start(w.t, []string{"SYNCGATE_ACCEPT_UNSAFE_DATABASE=true"}, "syncgate", "serve", "--config",
		filepath.Join(w.dir, "syncgate.toml"))
	address, _ := p.WaitLog("listening")["legacy"].(string)
	c := dialLegacy(w.t, address, pyliteral.Python2)
	row := pyliteral.Tuple{pyliteral.Unicode("http://a/"), pyliteral.Unicode("it's"), int64(3),
		pyliteral.Unicode("more")}
	if r := c.ask(c.packet(pointName, "UPLOAD_DB", "Phishing_Log", pyliteral.List{row})); r.failed {
		w.t.Errorf("an upload is answered with %+v", r)
	}
	if n := w.db.Count("SELECT COUNT(*) FROM phishing_log WHERE url = 'http://a/' AND ip = 'it''s' AND " +
		"hits = 3"); n != 1 {
		w.t.Error("the row is not there")
	}
	if r := c.ask(c.packet(pointName, "DOLOAD_DB", "black_list", pyliteral.Str("{'whatever': 1}"))); r.failed ||
		r.text != "[[]]" {
		w.t.Errorf("a download is answered with %+v", r)
	}
	c = dialLegacy(w.t, address, pyliteral.Python2)
	state := pyliteral.List{pyliteral.Tuple{pyliteral.Tuple{pyliteral.Unicode("update_time"),
		pyliteral.Unicode("1970-01-01")}}}
	if r := c.ask(c.packet("7", "DOLOAD_DB", "black_list", state)); r.failed || r.text != "[[(u'a.example',)]]" {
		w.t.Errorf("a download with a number for a userid is answered with %+v", r)
	}
	if r := c.ask(c.packet("7", "DOLOAD_DB", "black_list", pyliteral.Str("word"))); !r.failed ||
		!strings.Contains(fmt.Sprint(r.info), "SG0203") {
		w.t.Errorf("a word where a state is needed is answered with %+v", r)
	}
	p.Stop()
	// The original reads its rows as they were, but for the edit.
	const rows = "SELECT * FROM %s WHERE id <> 2"
	if before, after := w.db.Sum(fmt.Sprintf(rows, "original_control")),
		w.db.Sum(fmt.Sprintf(rows, "sync_control")); before != after {
		w.t.Errorf("the rows were changed: %s, before %s", after, before)
	}
}
