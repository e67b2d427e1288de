package test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"syncgate/store/localdb/localdbtest"
)

func TestExitCodes(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.toml")
	if err := os.WriteFile(bad, []byte("listen = \"127.0.0.1:0\"\nlissten = true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		env  []string
		args []string
		code int
		says string
	}{
		{name: "help", args: []string{"--help"}},
		{name: "version", args: []string{"--version"}},
		{name: "unknown command", args: []string{"sreve"}, code: 2, says: "sreve"},
		{name: "unknown flag", args: []string{"serve", "--prot", "1"}, code: 2, says: "--prot"},
		{name: "argument missing", args: []string{"point", "add"}, code: 2, says: "NAME is missing"},
		{name: "bad format", args: []string{"point", "list", "--format", "xml"}, code: 2, says: "text, json"},
		{name: "bad point name", args: []string{"point", "add", "*"}, code: 2, says: "every point"},
		{name: "unknown setting", args: []string{"serve", "--config", bad}, code: 78,
			says: "bad.toml:2:1: unknown setting \"lissten\"; did you mean \"listen\"?"},
		{name: "no such file", args: []string{"serve", "--config", filepath.Join(dir, "none.toml")}, code: 78,
			says: "none.toml"},
		{name: "bad environment", env: []string{"SYNCGATE_QUEUE=many"}, args: []string{"serve"}, code: 78,
			says: "SYNCGATE_QUEUE"},
		{name: "setting out of bounds", env: []string{"SYNCGATE_MAX_FRAME=17MiB"}, args: []string{"serve"}, code: 78,
			says: "max_frame: 17MiB is not between 4KiB and 16MiB"},
		{name: "bad address", args: []string{"serve", "--listen", "here"}, code: 78, says: "listen: \"here\""},
		{name: "DSN without a database", args: []string{"migrate", "--dsn", "root@tcp(db:3306)/"}, code: 78,
			says: "dsn: names no database"},
		{name: "bad DSN", args: []string{"migrate", "--dsn", "what?"}, code: 78, says: "user:password@tcp"},
		{name: "no database there", args: []string{"migrate", "--dsn", "root@unix(" + dir + "/none.sock)/x"}, code: 1,
			says: "not available"},
		{name: "unknown number", args: []string{"explain-error", "SG9999"}, code: 1, says: "SG9999"},
		{name: "known number", args: []string{"explain-error", "sg0104"}},
		{name: "settings", args: []string{"config"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, errs, code := Run(t, append(tt.env, "SYNCGATE_DATA_DIR="+dir), "syncgate", tt.args...)
			if code != tt.code || !strings.Contains(errs, tt.says) {
				t.Fatalf("exit %d, want %d and %q in\n%s%s", code, tt.code, tt.says, out, errs)
			}
			if code == 0 && (out == "" || errs != "") {
				t.Fatalf("standard output %q, standard error %q", out, errs)
			}
		})
	}
}

// serve checks the settings of the v1 wire before it opens anything, and each error names its setting.
func TestExitSeedEraSettings(t *testing.T) {
	dir := t.TempDir()
	good := map[string]string{"key": `"text:0123456789abcdef"`, "token_key": `"token"`, "networks": `["10.0.0.0/8"]`}
	for _, tt := range []struct{ setting, value, says string }{
		{"key", `""`, "16, 24, 32 bytes"},
		{"key", `"text:short"`, "16, 24, 32 bytes"},
		{"key", `"0123456789abcdef"`, "hex: or text:"},
		{"key", `"hex:xy"`, "after hex:"},
		{"iv", `"text:short"`, "16 bytes"},
		{"token_key", `""`, "is needed"},
		{"window", `"2h"`, "not between 1s and 1h"},
		{"time_zone", `"Mars/Olympus"`, "Mars/Olympus"},
		{"networks", `[]`, "is needed"},
		{"networks", `["10.0.0.1"]`, "10.1.0.0/16"},
		{"dialect", `"python4"`, "python3.6 to python3.13"},
		{"dialect", `"autopython3"`, "auto:python3"},
		{"names", `{Userid = "u"}`, "Userid"},
		{"names", `{Type = "Content"}`, "Content"},
		{"", "", ""},
		{"dialect", `"python3.11"`, ""},
		{"dialect", `"auto:python3"`, ""},
		{"names", `{Security_Token = "token"}`, ""},
	} {
		t.Run(tt.setting+tt.value, func(t *testing.T) {
			text := "listen_legacy = \"127.0.0.1:0\"\ndsn = \"root@unix(" + dir + "/none.sock)/x\"\n[legacy]\n"
			all := maps.Clone(good)
			if tt.setting != "" {
				all[tt.setting] = tt.value
			}
			for name, value := range all {
				text += name + " = " + value + "\n"
			}
			file := filepath.Join(t.TempDir(), "syncgate.toml")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, errs, code := Run(t, nil, "syncgate", "serve", "--config", file, "--data-dir", dir)
			want, says := 78, []string{"legacy." + tt.setting + ": ", tt.says}
			if tt.says == "" { // the settings are good, so serve reaches the database, which does not exist
				want, says = 1, []string{"not available"}
			}
			for _, text := range says {
				if code != want || !strings.Contains(errs, text) {
					t.Fatalf("exit %d, want %d and %q in\n%s", code, want, text, errs)
				}
			}
		})
	}
}

func TestMigrateTwiceAtOnce(t *testing.T) {
	w := New(t) // newWorld has migrated; drop everything again
	w.Centre.SetMaxOpenConns(1)
	var tables []string
	rows, err := w.Centre.Query("SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() " +
		"ORDER BY table_type = 'VIEW' DESC")
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		tables = append(tables, name)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	w.Centre.Must("SET foreign_key_checks = 0")
	for _, name := range tables {
		kind := "TABLE"
		if name == "sync_control_status" {
			kind = "VIEW"
		}
		w.Centre.Must("DROP " + kind + " `" + name + "`")
	}
	var all sync.WaitGroup
	said := make([]string, 4)
	for i := range said {
		all.Go(func() { said[i] = w.Must("migrate") })
	}
	all.Wait()
	did := 0
	for _, s := range said {
		if s != "the schema is up to date\n" {
			did++
		}
	}
	if did != 1 {
		t.Fatalf("%d of %d migrated:\n%s", did, len(said), strings.Join(said, "---\n"))
	}
}

func TestPointCommands(t *testing.T) {
	w := New(t)
	w.Point.Enrol(pointName)
	if _, errs, code := Run(t, w.Env, "syncgate", "point", "add", pointName); code != 1 ||
		!strings.Contains(errs, pointName) {
		t.Fatalf("a point enrolled twice: exit %d, %s", code, errs)
	}
	var key struct {
		KeyID uint32 `json:"key_id"`
	}
	if err := json.Unmarshal([]byte(w.Must("point", "rotate", pointName, "--format", "json")), &key); err != nil ||
		key.KeyID != 2 {
		t.Fatalf("the second key has id %d: %v", key.KeyID, err)
	}
	w.Serve()
	if out, errs, code := w.Point.Once(); code != 0 {
		t.Fatalf("under the first key: exit %d\n%s%s", code, out, errs)
	}
	w.Centre.Eventually(1, "SELECT COUNT(*) FROM sync_point_key WHERE key_id = 1 AND last_used_at IS NOT NULL")
	if list := w.Must("point", "list"); !strings.Contains(list, "modern") || !strings.Contains(list, "1,2") {
		t.Fatalf("the list does not tell which wire and which keys:\n%s", list)
	}
	w.Must("point", "revoke", pointName, "--key-id", "1")
	if list := w.Must("point", "list"); strings.Contains(list, "1,2") {
		t.Fatalf("the key is still live:\n%s", list)
	}
	// The server notices the change within a second.
	for {
		_, errs, code := w.Point.Once()
		if code == 78 && strings.Contains(errs, "SG0001") {
			break
		}
		if code != 0 || t.Context().Err() != nil {
			t.Fatalf("exit %d: %s", code, errs)
		}
	}
	info, err := os.Stat(filepath.Join(w.Dir, "centre", "master.key"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the master key's file: %v %v", info, err)
	}
}

// Without a DSN and without a running server each command starts the private database and stops it again. Commands that
// run at the same time must not stop it while another one uses it.
func TestCommandsTakeTurns(t *testing.T) {
	t.Parallel()
	env := []string{"SYNCGATE_DATA_DIR=" + t.TempDir()}
	if _, errs, code := Run(t, env, "syncgate", "migrate"); code != 0 {
		t.Fatalf("migrate: exit %d: %s", code, errs)
	}
	var all sync.WaitGroup
	for _, name := range []string{"a", "b", "c"} {
		all.Go(func() {
			if _, errs, code := Run(t, env, "syncgate", "point", "add", name); code != 0 {
				t.Errorf("point add %s: exit %d: %s", name, code, errs)
			}
		})
	}
	all.Wait()
	if out, errs, code := Run(t, env, "syncgate", "point", "list"); code != 0 || strings.Count(out, "enrolled") != 3 {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
}

// A command that is given the wrong database changes nothing in it, says which database it is and what to do, and keeps
// no program from its own.
func TestWrongDatabase(t *testing.T) {
	w := New(t)
	w.Point.Enrol(pointName)
	tables := func(db *DB) string {
		var all, run string
		err := db.QueryRow(`SELECT GROUP_CONCAT(table_name ORDER BY table_name), (SELECT GROUP_CONCAT(name) FROM `+
			`sync_migration)
			FROM information_schema.tables WHERE table_schema = DATABASE()`).Scan(&all, &run)
		if err != nil {
			t.Fatal(err)
		}
		return all + run
	}
	point, centre := tables(w.Point.DB), tables(w.Centre)
	for _, command := range []string{"quarantine list", "rules check", "point list", "migrate", "serve", "doctor"} {
		out, errs, code := Run(t, w.Env, "syncgate", append(strings.Fields(command), "--dsn", w.Point.DSN)...)
		said := out + errs
		if code == 0 || !strings.Contains(said, "holds the tables of syncgate's agent") ||
			!strings.Contains(said, "--dsn") {
			t.Errorf("%s on a point's database: exit %d\n%s", command, code, said)
		}
	}
	_, errs, code := w.Point.Once("SYNCGATE_AGENT_DSN=" + w.Centre.DSN)
	if code != 78 || !strings.Contains(errs, "holds the tables of syncgate's server") {
		t.Errorf("an agent on the central database: exit %d\n%s", code, errs)
	}
	if tables(w.Point.DB) != point || tables(w.Centre) != centre {
		t.Error("a command has changed the other program's database")
	}
	w.Serve()
	if _, errs, code := w.Point.Once(); code != 0 {
		t.Errorf("the agent afterwards: exit %d\n%s", code, errs)
	}
}

// A database without a schema gets one by migrate and serve, not by a command that looks.
func TestCommandsDoNotMigrate(t *testing.T) {
	empty := localdbtest.New(t)
	env := []string{"SYNCGATE_DSN=" + empty, "SYNCGATE_DATA_DIR=" + t.TempDir(), "SYNCGATE_ACCEPT_UNSAFE_DATABASE=true"}
	for _, args := range [][]string{{"quarantine", "list"}, {"rules", "list"}, {"point", "add", "p"}, {"doctor"}} {
		if out, errs, code := Run(t, env, "syncgate", args...); code == 0 ||
			!strings.Contains(out+errs, "syncgate migrate") {
			t.Errorf("%v: exit %d\n%s%s", args, code, out, errs)
		}
	}
	db := Open(t, empty)
	if n := db.Count("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE()"); n != 0 {
		t.Errorf("%d tables were made", n)
	}
	for _, args := range [][]string{{"migrate"}, {"point", "add", "p"}} {
		if out, errs, code := Run(t, env, "syncgate", args...); code != 0 {
			t.Errorf("%v: exit %d\n%s%s", args, code, out, errs)
		}
	}
}
