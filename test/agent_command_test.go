package test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The exit code of the agent tells a script whether to try later (75), to look at rows (65) or at the settings (78).
func TestAgentExitCodes(t *testing.T) {
	t.Parallel()
	w := New(t)
	for _, db := range w.Databases() {
		db.Must(hitsTable)
	}
	w.Rule("server", "upload", "hits", "")
	w.Rule("client", "upload", "hits", "")
	w.Enrol()
	w.Serve()
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer nobody.Close() // it accepts and says nothing
	server := w.Point.Setting("SYNCGATE_AGENT_SERVER")
	w.Point.Must("CREATE USER IF NOT EXISTS 'reader'@'localhost' IDENTIFIED BY 'x'")
	reader := strings.Replace(w.Point.DSN, "root@", "reader:x@", 1)
	for _, tt := range []struct {
		name string
		env  string
		code int
		says string
	}{
		{"a wrong point", "SYNCGATE_AGENT_POINT=point-0l", 78, "SG0001"},
		{"a wrong key", "SYNCGATE_AGENT_KEY_ID=9", 78, "SG0001"},
		{"no server", "SYNCGATE_AGENT_SERVER=127.0.0.1:1", 75, "not reached"},
		{"one server of two", "SYNCGATE_AGENT_SERVER=127.0.0.1:1, " + server, 0, ""},
		{"one of two is silent", "SYNCGATE_AGENT_SERVER=" + nobody.Addr().String() + "*1000," + server +
			"*0.001", 0, ""},
		{"bad weights", "SYNCGATE_AGENT_SERVER=a:1*2, b:1", 78, "SYNCGATE_AGENT_SERVER"},
		{"no database", "SYNCGATE_AGENT_DSN=root@unix(" + w.Dir + "/none.sock)/x", 75, "not available"},
		{"no rights", "SYNCGATE_AGENT_DSN=" + reader, 78, "denied"},
		{"the centre's database", "SYNCGATE_AGENT_DSN=" + w.Centre.DSN, 78, "syncgate's server"},
	} {
		out, errs, code := w.Point.Once(tt.env)
		if code != tt.code || !strings.Contains(errs, tt.says) {
			t.Errorf("%s: exit %d, want %d and %q in\n%s%s", tt.name, code, tt.code, tt.says, out, errs)
		}
	}
	// A row that the centre refuses is not done.
	w.Centre.Must("ALTER TABLE hits ADD CONSTRAINT small CHECK (id < 100)")
	w.Point.Must("INSERT INTO hits (id, url) VALUES (100, 'u')")
	if out, errs, code := w.Point.Once(); code != 65 || !strings.Contains(errs, "1 row in quarantine") {
		t.Errorf("a refused row: exit %d\n%s%s", code, out, errs)
	}
}

// A database serves one point and one agent. The second is told who is there.
func TestAgentOwnsItsDatabase(t *testing.T) {
	t.Parallel()
	w := Make(t, Options{Points: 2})
	w.Enrol()
	w.Serve()
	agent := w.Point.Run()
	agent.WaitLog("connected")
	w.Point.Eventually(1, "SELECT COUNT(*) FROM sync_agent_owner WHERE point_no = ?", w.Point.Name)
	_, errs, code := w.Point.Once()
	who := fmt.Sprintf("process %d", agent.Pid())
	if code != 75 || !strings.Contains(errs, who) || !strings.Contains(errs, w.Point.Name) {
		t.Errorf("a second agent: exit %d, want 75 and %q in %s", code, who, errs)
	}
	agent.Stop()
	other := w.Points[1]
	_, errs, code = other.Once("SYNCGATE_AGENT_DSN=" + w.Point.DSN)
	if code != 78 || !strings.Contains(errs, "point point-01") || !strings.Contains(errs, "point point-02") {
		t.Errorf("an agent of another point: exit %d\n%s", code, errs)
	}
	w.Point.MustOnce()
}

// Two gateways work on one database. When one is killed, the agent goes on with the other within seconds, and no row
// comes twice.
func TestAgentLeavesKilledServer(t *testing.T) {
	t.Parallel()
	const rows = 4000
	w := counted(t, Options{})
	w.Enrol()
	first := w.Serve()
	makeHits(t, w.Point.DB, 1, rows)
	second := Start(t, append(w.Env, "SYNCGATE_LISTEN=127.0.0.1:0",
		"SYNCGATE_MASTER_KEY_FILE="+filepath.Join(w.Dir, "centre", "master.key"),
		"SYNCGATE_DATA_DIR="+filepath.Join(w.Dir, "second")), "syncgate", "serve")
	both := w.Point.Setting("SYNCGATE_AGENT_SERVER") + "," + second.WaitLog("listening")["address"].(string)
	agent := w.Point.Run("SYNCGATE_AGENT_SERVER="+both, "SYNCGATE_AGENT_BATCH_ROWS=20")
	w.Centre.AtLeast(rows/10, "SELECT COUNT(*) FROM hits")
	first.Kill()
	w.Centre.Eventually(rows, "SELECT COUNT(*) FROM hits")
	writtenOnce(w, rows)
	agent.Stop()
}

// What pull writes push takes back, in every format. A push that is killed goes on where it was, and no row is written
// twice. It needs no database at the point.
func TestPullAndPush(t *testing.T) {
	t.Parallel()
	const rows = 2500
	w := New(t)
	w.Centre.Must(hitsTable)
	makeHits(t, w.Centre, 1, rows)
	w.Rule("server", "download", "hits", "")
	for _, name := range []string{"csv", "tsv", "jsonl", "killed"} {
		w.Centre.Must("CREATE TABLE to_" + name + " LIKE hits")
		w.Rule("server", "upload", "to_"+name, "")
	}
	w.Centre.Must("CREATE TABLE written (id BIGINT NOT NULL)")
	w.Centre.Must("CREATE TRIGGER noted AFTER INSERT ON to_killed FOR EACH ROW INSERT INTO written VALUES (NEW.id)")
	w.Centre.Must("ALTER TABLE to_tsv ADD CHECK (id <> 7)")
	w.Point.Enrol(pointName)
	w.Serve()
	// push and pull need none
	w.Point.Env = append(w.Point.Env, "SYNCGATE_AGENT_DSN=", "SYNCGATE_AGENT_DATA_DIR=/nonexistent")
	run := func(want int, says string, args ...string) {
		t.Helper()
		out, errs, code := Run(t, w.Point.Env, "syncgate-agent", args...)
		if code != want || !strings.Contains(out+errs, says) {
			t.Errorf("%v: exit %d, want %d and %q in\n%s%s", args, code, want, says, out, errs)
		}
	}
	all := w.Centre.Sum("SELECT * FROM hits")
	for _, name := range []string{"csv", "tsv", "jsonl"} {
		file := filepath.Join(w.Dir, "hits."+name+".gz")
		run(0, "2500 rows from hits", "pull", "hits", "--out", file)
		if name == "tsv" {
			run(65, "row 7: SG0304", "push", "to_tsv", file)
			w.Centre.Must("ALTER TABLE to_tsv DROP CONSTRAINT CONSTRAINT_1")
			w.Centre.Must("INSERT INTO to_tsv SELECT * FROM hits WHERE id = 7")
		} else {
			run(0, `"applied": 2500`, "push", "to_"+name, file, "--format", "json")
		}
		if sum := w.Centre.Sum("SELECT * FROM to_" + name); sum != all {
			t.Errorf("%s: %s came, not %s", name, sum, all)
		}
	}
	file := filepath.Join(w.Dir, "hits.csv")
	run(0, "", "pull", "hits", "--out", file)
	w.Point.Link().Slow(20 * time.Millisecond)
	for part := 1; part < 4; part++ {
		push := Start(t, w.Point.Env, "syncgate-agent", "push", "to_killed", file)
		w.Centre.AtLeast(part*rows/5, "SELECT COUNT(*) FROM to_killed")
		_ = push.Process.Kill() // it may have ended
	}
	run(0, "2500 rows to to_killed", "push", "to_killed", file)
	run(0, "was pushed before", "push", "to_killed", file)
	if sum := w.Centre.Sum("SELECT * FROM to_killed"); sum != all {
		t.Errorf("after kills %s came, not %s", sum, all)
	}
	if n := w.Centre.Count("SELECT COUNT(*) FROM written"); n != rows {
		t.Errorf("%d rows were written %d times", rows, n)
	}
	run(65, "line 3", "push", "to_csv", badFile(t, "id,url\n1,a\n2\n"))
	run(78, "SG0200", "push", "nothing", badFile(t, "id\n1\n"))
	run(75, "not reached", "pull", "hits", "--server", "127.0.0.1:1", "--wait", "0s")
}

func badFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bad.csv")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// What a person at the point can ask, with a database account that has only the documented rights.
func TestAgentTellsHowItIs(t *testing.T) {
	t.Parallel()
	w := New(t)
	for _, db := range w.Databases() {
		db.Must(hitsTable)
	}
	w.Rule("client", "upload", "hits", "-- option: outbox")
	w.Point.Must("INSERT INTO hits (id, url) VALUES (1, 'u')")
	w.Enrol()
	w.Serve()
	database := w.Point.Text("SELECT DATABASE()")
	w.Point.Must("CREATE USER " + database + "@localhost IDENTIFIED BY 'x'")
	ask := func(want int, says string, args ...string) string {
		t.Helper()
		out, errs, code := Run(t, w.Point.Env, "syncgate-agent", args...)
		if code != want || !strings.Contains(out+errs, says) {
			t.Errorf("%v: exit %d, want %d and %q in\n%s%s", args, code, want, says, out, errs)
		}
		return out
	}
	w.Point.Env = append(w.Point.Env, "SYNCGATE_AGENT_DSN="+strings.Replace(w.Point.DSN, "root@", database+":x@", 1))
	ask(78, "denied", "check")
	w.Point.Must("GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, CREATE VIEW, DROP ON `" + database +
		"`.* TO " + database + "@localhost")
	// the database of tests is not durable
	ask(1, "GRANT TRIGGER ON `"+database+"`.* TO '"+database+"'@'localhost'", "check")
	w.Point.Must("GRANT TRIGGER ON `" + database + "`.* TO " + database + "@localhost")
	said := ask(1, "all that are needed", "check")
	for _, line := range []string{"ok     settings      point point-01, key 1", "takes the key",
		"ok     upload        hits"} {
		if !strings.Contains(said, line) {
			t.Errorf("check does not say %q:\n%s", line, said)
		}
	}
	good := w.Point.Env
	w.Point.Env = append(slices.Clone(good), "SYNCGATE_AGENT_KEY_ID=7")
	ask(78, "'syncgate point list'", "check")
	w.Point.Env = good
	ask(75, "refused", "check", "--server", "127.0.0.1:1")

	ask(78, "SG0200", "sync", "hits")
	ask(2, "names the table", "sync", "nothing")
	ask(0, "SG0200 NO_RULE", "outbox", "list")
	w.Rule("server", "upload", "hits", "")
	agent := w.Point.Run()
	agent.WaitLog("connected")
	w.Centre.Eventually(1, "SELECT COUNT(*) FROM hits")
	ask(0, "the running agent was asked", "sync", "hits")
	ask(0, `"asked": true`, "outbox", "retry", "--format", "json")
	w.Point.Eventually(1, "SELECT COUNT(*) FROM sync_point_status WHERE state = 'ok'")
	status := ask(0, "the agent runs", "status")
	for _, text := range []string{"point-01, key 1", "with server 127.0.0.1", "upload  hits   ok"} {
		if !strings.Contains(status, text) {
			t.Errorf("status does not say %q:\n%s", text, status)
		}
	}
	agent.Stop()
	ask(0, `"running": false`, "status", "--format", "json")
	w.Point.Must("INSERT INTO sync_outbox (epoch, seq, rule_id, sync_table, row_count, payload) VALUES (1, 2, 1, " +
		"'x', 1, ''), (1, 3, 1, 'x', 1, '')")
	ask(0, "dropped: 1", "outbox", "drop", "0000000000000001-0000000000000002")
	ask(0, "dropped: 1", "outbox", "drop", "x")
}

// TestAgentDocument runs the blocks of docs/agent.md, in their order.
func TestAgentDocument(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(Root(t), "docs", "agent.md"))
	if err != nil {
		t.Fatal(err)
	}
	w := New(t)
	for _, db := range w.Databases() {
		db.Must("CREATE TABLE goods (id INT PRIMARY KEY, name VARCHAR(20), price DECIMAL(8,2))")
	}
	w.Point.Must("INSERT INTO goods VALUES (1, 'nut', 0.20), (2, NULL, 1.50)")
	for _, way := range []string{"upload", "download"} {
		w.Rule("server", way, "goods", "")
	}
	w.Rule("client", "upload", "goods", "")
	w.Enrol()
	w.Serve()
	lines := 0
	for _, block := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		for line := range strings.Lines(block[1]) {
			lines++
			cmd := exec.Command("sh", "-ec", line)
			cmd.Dir = w.Dir
			cmd.Env = slices.Concat(os.Environ(), w.Point.Env,
				[]string{"PATH=" + filepath.Dir(Program(t, "syncgate-agent")) + ":" + os.Getenv("PATH")})
			out, err := cmd.CombinedOutput()
			if err != nil && !strings.Contains(string(out), "fail   durability") { // of the database of tests
				t.Errorf("%s%v\n%s", line, err, out)
			}
		}
	}
	if lines < 10 {
		t.Errorf("the document has %d commands", lines)
	}
	if n := w.Centre.Count("SELECT COUNT(*) FROM goods"); n != 2 {
		t.Errorf("%d rows are at the centre", n)
	}
}
