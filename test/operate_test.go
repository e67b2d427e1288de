package test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"syncgate/protocol"
)

// A lost or another master key stops the start; a new one is moved to while the server runs.
func TestMasterKey(t *testing.T) {
	w := New(t)
	w.Point.Enrol(pointName)
	path := filepath.Join(w.Dir, "centre", "master.key")
	key, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(says string) {
		t.Helper()
		for _, args := range [][]string{{"serve"}, {"point", "rotate", pointName}} {
			if _, errs, code := Run(t, w.Env, "syncgate", args...); code != 78 || !strings.Contains(errs, says) {
				t.Errorf("%v: exit %d, want 78 and %q\n%s", args, code, says, errs)
			}
		}
		if out, _, code := Run(t, w.Env, "syncgate", "doctor"); code != 2 || !strings.Contains(out, "master") {
			t.Errorf("doctor: exit %d\n%s", code, out)
		}
	}
	put := func(text []byte, mode os.FileMode) {
		t.Helper()
		os.Remove(path)
		if err := os.WriteFile(path, text, mode); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	refused("is missing, and the database has 1 key")
	put([]byte("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n"), 0o600)
	refused("opens none of the database's 1 key")
	put(key, 0o644)
	refused("others may read it")
	put(key, 0o600)

	server := w.Serve()
	open, err := w.Point.Dial()
	if err != nil {
		t.Fatal(err)
	}
	open.Ask(protocol.OpPing, open.Wire.RequestID(), nil)
	w.Must("key", "rewrap")
	if now, err := os.ReadFile(path); err != nil || string(now) == string(key) {
		t.Errorf("the file has not changed: %v", err)
	}
	if old, err := os.ReadFile(path + ".old"); err != nil || string(old) != string(key) {
		t.Errorf("the old file is not kept: %v", err)
	}
	w.Must("point", "add", "another")
	server.WaitLog("a key cannot be used") // the server has read the keys again
	open.Ask(protocol.OpPing, open.Wire.RequestID(), nil)
	server.Stop()
	w.Serve()
	if _, err := w.Point.Dial(); err != nil {
		t.Errorf("after the restart: %v", err)
	}
}

// A revoked key's session ends also when it has not sent a record yet.
func TestRevokedBeforeTheFirstRecord(t *testing.T) {
	w := New(t)
	w.Point.Enrol(pointName)
	w.Env = append(w.Env, "SYNCGATE_LOG_LEVEL=debug")
	server := w.Serve()
	c, err := w.Point.Dial()
	if err != nil {
		t.Fatal(err)
	}
	w.Must("point", "revoke", pointName)
	server.WaitLine("the session ends", func(line map[string]any) bool {
		text, _ := line["error"].(string)
		return line["message"] == "disconnected" && strings.Contains(text, "was revoked")
	})
	if _, err := c.Next(); err == nil {
		t.Error("the session goes on")
	}
}

// A key that the point uses is not revoked by a second rotation.
func TestRotateKeepsTheKeyInUse(t *testing.T) {
	w := New(t)
	w.Point.Enrol(pointName)
	w.Serve()
	if _, errs, code := w.Point.Once(); code != 0 {
		t.Fatal(errs)
	}
	w.Centre.Eventually(1, "SELECT COUNT(*) FROM sync_point_key WHERE key_id = 1 AND last_used_at IS NOT NULL")
	w.Must("point", "rotate", pointName)
	if _, errs, code := Run(t, w.Env, "syncgate", "point", "rotate", pointName); code != 1 ||
		!strings.Contains(errs, "key 2") {
		t.Errorf("exit %d: %s", code, errs)
	}
	if _, errs, code := w.Point.Once(); code != 0 {
		t.Errorf("under the first key: exit %d: %s", code, errs)
	}
}

// HUP reads the configuration again and ends nothing, whatever is in the file.
func TestHangup(t *testing.T) {
	w := New(t)
	file := filepath.Join(t.TempDir(), "syncgate.toml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("queue = 7\n")
	w.Env = append(w.Env, "SYNCGATE_CONFIG="+file)
	server := w.Serve()
	write("queue = 8\nlog_level = \"debug\"\n")
	if err := syscall.Kill(server.Pid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	line := server.WaitLog("HUP: configuration read again")
	if needed, _ := line["restart_needed_for"].([]any); len(needed) != 1 || needed[0] != "queue" {
		t.Errorf("a restart is said to be needed for %v", needed)
	}
	write("queue = 8\nkeepalive = 10\n")
	if err := syscall.Kill(server.Pid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	line = server.WaitLog("HUP: the configuration has a mistake and is not used")
	if text, _ := line["error"].(string); !strings.Contains(text, file+":2:1: keepalive: 10 has no unit") {
		t.Errorf("the mistake is %q", text)
	}
	server.Stop()
}

// What only a person can correct ends with 78, so that a service manager does not try for ever; mistakes are named with
// their place; and no command makes a database by surprise.
func TestPermanentFaults(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "syncgate.toml")
	w := New(t)
	for _, tt := range []struct{ name, text, says string }{
		{"drain", "drain_timeout = 20\n", file + `:1:1: drain_timeout: 20 has no unit; write "20s"`},
		{"bounds", "\nqueue = -1\n", file + ":2:1: queue: -1 is not between"},
		{"address", "listen = \"localhost:1\"\n", file + ":1:1: listen: "},
		{"level", "log_level = \"loud\"\n", file + ":1:1: log_level: "},
		{"dsn", "dsn = \"nonsense\"\n", file + ":1:1: dsn: "},
	} {
		if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"config", "check", file}, {"serve", "--config", file, "--data-dir", dir}} {
			if _, errs, code := Run(t, nil, "syncgate", args...); code != 78 || !strings.Contains(errs, tt.says) {
				t.Errorf("%s, %v: exit %d, want 78 and %q\n%s", tt.name, args, code, tt.says, errs)
			}
		}
	}
	if err := os.WriteFile(file, []byte("queue = 8\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, errs, code := Run(t, nil, "syncgate", "config", "check", file); code != 0 || !strings.Contains(out, "ok") {
		t.Errorf("a good file: exit %d\n%s%s", code, out, errs)
	}
	_, errs, code := Run(t, []string{"SYNCGATE_QUEU=7"}, "syncgate", "config", "check", file)
	if code != 1 || !strings.Contains(errs, "did you mean SYNCGATE_QUEUE?") {
		t.Errorf("an unknown variable: exit %d\n%s", code, errs)
	}
	if _, errs, code := Run(t, append(w.Env, "SYNCGATE_LISTEN=192.0.2.1:1"), "syncgate", "serve"); code != 78 {
		t.Errorf("an address of another host: exit %d\n%s", code, errs)
	}
	empty := filepath.Join(dir, "empty")
	_, errs, code = Run(t, nil, "syncgate", "point", "add", "p", "--data-dir", empty)
	if _, err := os.Stat(empty); code != 78 || !os.IsNotExist(err) || !strings.Contains(errs, "no private database") {
		t.Errorf("point add without a database: exit %d, directory: %v\n%s", code, err, errs)
	}
	if _, errs, _ := Run(t, w.Env, "syncgate", "point", "list"); !strings.Contains(errs, "database: ") {
		t.Errorf("point list does not say which database it looks at: %s", errs)
	}
}
