package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fileOf is the lines of a file.
func fileOf(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// domains is a world with a table of domains, whose rows become files.
func domains(t *testing.T) (w *World, centre, point string) {
	w = New(t)
	for _, db := range []*DB{w.Centre, w.Point.DB} {
		db.Must("CREATE TABLE list (domain VARCHAR(190) NOT NULL PRIMARY KEY, update_time DATETIME(6) NOT NULL)")
	}
	w.Point.Enrol(pointName)
	centre, point = t.TempDir(), t.TempDir()
	w.Env = append(w.Env, "SYNCGATE_FILE_DIR="+centre)
	w.Point.Env = append(w.Point.Env, "SYNCGATE_AGENT_FILE_DIR="+point)
	return w, centre, point
}

func addDomains(db *DB, from, rows int) {
	values := make([]string, rows)
	for i := range values {
		values[i] = fmt.Sprintf("('d%06d', now(6))", from+i)
	}
	db.Must("INSERT INTO list VALUES " + strings.Join(values, ","))
}

// An upload that reads all rows in several batches replaces the file at its last one.
func TestFileOfAllUploadedRows(t *testing.T) {
	w, dir, _ := domains(t)
	w.Rule("client", "upload", "list", "-- upside\nselect domain, update_time from list order by domain")
	w.Rule("server", "upload", "list", "-- downside: file lists/{point_no}.txt lines domain")
	path := filepath.Join(dir, "lists", pointName+".txt")
	addDomains(w.Point.DB, 0, 2500)
	server := w.Serve()
	w.Point.MustOnce()
	if n := len(fileOf(t, path)); n != 2500 {
		t.Errorf("%d lines, want 2500", n)
	}
	w.Point.DB.Must("DELETE FROM list WHERE domain < 'd000100'")
	addDomains(w.Point.DB, 2500, 1)
	w.Point.MustOnce()
	if lines := fileOf(t, path); len(lines) != 2401 || lines[0] != "d000100" || lines[2400] != "d002500" {
		t.Errorf("%d lines from %s on", len(lines), lines[0])
	}

	// The file cannot be written: the number says so, and the rows come when it can.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, errs, code := w.Point.Once(); code == 0 || !strings.Contains(errs, "SG0305") {
		t.Errorf("exit %d\n%s", code, errs)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	w.Point.MustOnce()
	if n := len(fileOf(t, path)); n != 2401 {
		t.Errorf("%d lines, want 2401", n)
	}
	server.Stop()
}

// An upload that reads on from a state appends, whatever happens to its server.
func TestFileOfNewUploadedRows(t *testing.T) {
	w, dir, _ := domains(t)
	w.Rule("client", "upload", "list", "")
	w.Rule("server", "upload", "list", "-- downside: file {point_no}.csv csv domain")
	addDomains(w.Point.DB, 0, 20_000)
	server := w.Serve()
	agent := w.Point.Run("SYNCGATE_AGENT_BATCH_ROWS=100")
	path := filepath.Join(dir, pointName+".csv")
	for kill := 1; kill <= 3; kill++ {
		Eventually(t, func() string { return "the file does not grow" }, func() bool {
			info, err := os.Stat(path)
			return err == nil && info.Size() >= int64(kill*20_000)
		})
		server.Kill()
		server = w.Serve()
	}
	all := func() bool { return len(fileOf(t, path)) >= 20_001 }
	Eventually(t, func() string { return fmt.Sprintf("%d lines", len(fileOf(t, path))) }, all)
	agent.Stop()
	server.Stop()
	lines := fileOf(t, path)
	for i, line := range lines[1:] {
		if want := fmt.Sprintf("d%06d", i); line != want {
			t.Fatalf("line %d of %d is %q, want %q", i+1, len(lines), line, want)
		}
	}
	if len(lines) != 20_001 || lines[0] != "domain" {
		t.Errorf("%d lines, the first is %q", len(lines), lines[0])
	}
}

// A download makes a file of all rows, though its rows come by pages and the centre reads on from a state.
func TestFileOfADownload(t *testing.T) {
	w, _, dir := domains(t)
	w.Rule("server", "download", "list", "-- option: lag 0s")
	w.Rule("client", "download", "list", "-- downside: file black.txt lines domain")
	server := w.Serve()
	// The centre's clock has to pass the time of a row before the row is read.
	rounds := func(name, want string, rows int) {
		t.Helper()
		var text []byte
		Eventually(t, func() string { return fmt.Sprintf("%.20q… of %d bytes", text, len(text)) }, func() bool {
			w.Point.MustOnce()
			text, _ = os.ReadFile(filepath.Join(dir, name))
			return strings.HasPrefix(string(text), want) && strings.Count(string(text), "\n") == rows
		})
	}
	addDomains(w.Centre, 0, 3000)
	rounds("black.txt", "d000000\n", 3000)
	addDomains(w.Centre, 3000, 1)
	w.Centre.Must("DELETE FROM list WHERE domain = 'd000000'")
	rounds("black.txt", "d000001\n", 3000)
	w.Centre.Must("DELETE FROM list")
	rounds("black.txt", "", 0)
	w.Point.Must("UPDATE sync_control SET sync_sql = '-- option: file append\n-- downside: file log.txt lines domain'")
	for i := range 2 {
		addDomains(w.Centre, i*10, 10)
		rounds("log.txt", "d000000\n", i*10+10)
	}
	server.Stop()
}
