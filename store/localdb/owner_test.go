package localdb_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	osexec "os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"syncgate/store/localdb"
)

// helperDir names the environment variable that turns TestOwnerProcess from
// nothing into a process that owns a database.
const helperDir = "SYNCGATE_TEST_OWNER_DIR"

// TestOwnerProcess is not a test of its own: TestOwnerKilled runs it as another process.
func TestOwnerProcess(t *testing.T) {
	dir := os.Getenv(helperDir)
	if dir == "" {
		t.Skip("run by TestOwnerKilled")
	}
	ctx, ignore := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer ignore()
	s, err := localdb.Start(ctx, localdb.Options{Dir: dir, Durable: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.CreateDatabase(ctx, "d"); err != nil {
		t.Fatal(err)
	}
	exec(t, open(t, s.DSN("d")), "CREATE TABLE t AS SELECT 'acknowledged' AS v")
	if _, err := fmt.Printf("owner's database is process %d\n", s.PID()); err != nil {
		t.Fatal(err)
	}
	<-ctx.Done()
	stop(t, s)
}

// A killed owner's database ends with it, and the next owner waits for that and finds every row.
func TestOwnerKilled(t *testing.T) {
	dir := t.TempDir()
	cmd := osexec.Command(os.Args[0], "-test.run=^TestOwnerProcess$", "-test.v")
	cmd.Env = append(os.Environ(), helperDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	database := readPID(t, out)

	if err := refused(t, localdb.Options{Dir: dir}); !errors.Is(err, localdb.ErrInUse) {
		t.Errorf("a second owner while the first lives: %v", err)
	}
	if !hasOpen(t, database, filepath.Join(dir, "server.lock")) {
		t.Error("the database does not hold server.lock, so that nobody would wait for it")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, out) // ends when the killed process is gone
	_ = cmd.Wait()                  // killed: an error by design

	r := run(t, localdb.Options{Dir: dir, Durable: true})
	if got := query(t, open(t, r.DSN("d")), "SELECT v FROM t"); got != "acknowledged" {
		t.Errorf("after the kill: %q", got)
	}
}

// An ordinary user needs nothing that root has. Where the tests already run as one TestLife shows it.
func TestOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("this is an ordinary user already")
	}
	home, err := os.MkdirTemp("", "syncgate-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	if err := os.Chown(home, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	// The test binary lies in a folder that only root may enter.
	program, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(home, "localdb.test")
	if err := os.WriteFile(path, program, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := osexec.Command(path, "-test.run=^(TestLife|TestLongDirectory|TestRefusedDirectories)$", "-test.v")
	cmd.Dir = home
	cmd.Env = append(os.Environ(), "HOME="+home, "TMPDIR="+home, "XDG_CACHE_HOME="+home)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !strings.Contains(string(out), "--- PASS: TestLife/durable") {
		t.Fatalf("it ran nothing:\n%s", out)
	}
}

// A new owner waits for the database that a killed one left, and gives up when it does not end.
func TestLingeringDatabase(t *testing.T) {
	dir := t.TempDir()
	stop(t, run(t, localdb.Options{Dir: dir}))
	lingering, err := os.Open(filepath.Join(dir, "server.lock")) // as the database has it open
	if err != nil {
		t.Fatal(err)
	}
	defer lingering.Close()
	if err := unix.Flock(int(lingering.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	err = refused(t, localdb.Options{Dir: dir}.WithTimes(waitLimit, 30*time.Millisecond))
	if !errors.Is(err, localdb.ErrInUse) || !strings.Contains(err.Error(), "earlier owner") {
		t.Errorf("a new owner: %v", err)
	}
	closed := make(chan error, 1)
	time.AfterFunc(50*time.Millisecond, func() { closed <- lingering.Close() })
	run(t, localdb.Options{Dir: dir}.WithTimes(waitLimit, waitLimit))
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
}

// hasOpen tells whether a process has a file open.
func hasOpen(t *testing.T, pid int, path string) bool {
	t.Helper()
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(links, func(link string) bool {
		to, err := os.Readlink(link)
		return err == nil && to == path
	})
}

func readPID(t *testing.T, r io.Reader) int {
	t.Helper()
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if s, ok := strings.CutPrefix(lines.Text(), "owner's database is process "); ok {
			pid, err := strconv.Atoi(s)
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatalf("the owner says nothing: %v", lines.Err())
	return 0
}
