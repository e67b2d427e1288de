package test

import (
	"bufio"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
)

// slowest bounds the median time from a commit at one point to the row at another one, on a machine that does much
// else. bench-live measures it.
const slowest = time.Second

// With the default settings a row that is committed at one point is at the centre and at another point at once: nobody
// waits for the next poll.
func TestRowsTravelAtOnce(t *testing.T) {
	t.Parallel()
	w := Make(t, Options{Points: 2})
	w.Enrol()
	for _, db := range w.Databases() {
		db.Must("CREATE TABLE goods (id INT PRIMARY KEY, n INT NOT NULL)")
	}
	w.Must("rules", "init", "goods", "--point", "*", "--type", "upload,download", "--both", "--changes", "--write")
	w.Serve()
	from, to := w.Points[0], w.Points[1]
	from.Run()
	to.Run()
	from.Must("INSERT INTO goods VALUES (0, 0)")
	to.Eventually(1, "SELECT COUNT(*) FROM goods")

	var centre, point []time.Duration
	for id := range 20 {
		time.Sleep(rand.N(300 * time.Millisecond)) // the moment of an insert has nothing to do with any timer
		from.Must("INSERT INTO goods VALUES (?, 1)", id+1)
		began := time.Now()
		for w.Centre.Count("SELECT COUNT(*) FROM goods WHERE id = ?", id+1) == 0 {
			time.Sleep(time.Millisecond)
		}
		centre = append(centre, time.Since(began))
		for to.Count("SELECT COUNT(*) FROM goods WHERE id = ?", id+1) == 0 {
			time.Sleep(time.Millisecond)
		}
		point = append(point, time.Since(began))
	}
	slices.Sort(centre)
	slices.Sort(point)
	t.Logf("at the centre: median %v, worst %v; at the other point: median %v, worst %v",
		centre[10], centre[19], point[10], point[19])
	if point[10] > slowest {
		t.Errorf("half of the rows took more than %v", point[10])
	}
	seen := tapped(w, "--point", from.Name, "--table", "goods", "--values")
	from.Must("INSERT INTO goods VALUES (100, 7), (101, 7)")
	for line := range seen {
		if strings.Contains(line, " upload ") {
			if !strings.Contains(line, " 2 ") || !strings.Contains(line, "  ok") {
				t.Error(line)
			}
			break
		}
	}
	if line := <-seen; !strings.Contains(line, `"id": 100; "n": 7;`) {
		t.Errorf("values are shown as %q", line)
	}
	// A run that somebody asks for shows how it goes, and leaves its lines in sync_log.
	out := w.Must("sync-now", to.Name, "goods", "--direction", "download")
	if !strings.Contains(out, "the point is asked to run the rule now\n") || !strings.Contains(out, "done: ") {
		t.Error(out)
	}
	if out, errs, code := Run(t, w.Env, "syncgate", "sync-now", to.Name, "nothing"); code != 1 ||
		!strings.Contains(errs, "NO_RULE") {
		t.Error(out, errs, code)
	}
	if _, errs, code := Run(t, w.Env, "syncgate", "sync-now", "nobody", "goods"); code != 1 ||
		!strings.Contains(errs, "not connected") {
		t.Error(errs, code)
	}
	w.Centre.Eventually(1, "SELECT COUNT(*) FROM sync_log WHERE point_no = ? AND batches = 0 AND message LIKE "+
		"'done: %'", to.Name)
	w.Centre.Eventually(23, `SELECT SUM(row_count) FROM sync_log WHERE point_no = ? AND sync_table = 'goods'
		AND sync_type = 'upload' AND status = 0`, from.Name)
	// What the centre itself changes, and deletes, is told too.
	w.Centre.Must("UPDATE goods SET n = 2 WHERE id = 1")
	from.Eventually(1, "SELECT COUNT(*) FROM goods WHERE n = 2")
	w.Centre.Must("DELETE FROM goods WHERE id = 2")
	to.Eventually(0, "SELECT COUNT(*) FROM goods WHERE id = 2")
}

// tapped are the lines that tap prints until the test ends. tap watches when the function returns.
func tapped(w *World, args ...string) <-chan string {
	w.T.Helper()
	cmd := exec.Command(Program(w.T, "syncgate"), append([]string{"tap"}, args...)...)
	cmd.Env = append(os.Environ(), w.Env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		w.T.Fatal(err)
	}
	w.T.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	lines := make(chan string, 1000)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	if heading := <-lines; !strings.HasPrefix(heading, "TIME") {
		w.T.Fatal(heading)
	}
	return lines
}
