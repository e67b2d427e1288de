package test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// An agent with 100 rules and nothing to do takes little of the processor and of the memory.
func TestAgentIdle(t *testing.T) {
	if Race {
		t.Skip("the race detector takes both for itself")
	}
	const rules, watched = 100, 3 * time.Second
	w := New(t)
	for i := range rules {
		table := fmt.Sprintf("idle_%d", i)
		for _, db := range w.Databases() {
			db.Must("CREATE TABLE " + table + " (id INT PRIMARY KEY, update_time DATETIME(6) NOT NULL, KEY " +
				"(update_time))")
		}
		w.Rule("server", "upload", table, "")
		w.Rule("client", "upload", table, "")
	}
	w.Point.Must("INSERT INTO idle_99 VALUES (1, NOW(6))")
	w.Enrol()
	w.Serve()
	agent := w.Point.Run()
	w.Centre.Eventually(1, "SELECT COUNT(*) FROM idle_99")
	used := func() (ticks int) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", agent.Pid()))
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')'):]))
		for _, field := range fields[12:14] { // utime and stime, in 1/100 s
			n := 0
			if _, err := fmt.Sscan(field, &n); err != nil {
				t.Fatal(err)
			}
			ticks += n
		}
		return ticks
	}
	time.Sleep(watched)
	before := used()
	time.Sleep(watched)
	cpu := time.Duration(used()-before) * 10 * time.Millisecond / time.Duration(watched/time.Second)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", agent.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	_, resident, _ := strings.Cut(string(status), "VmRSS:")
	kb := 0
	if _, err := fmt.Sscan(resident, &kb); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d idle rules: %v of processor a second, %d kB resident", rules, cpu, kb)
	if cpu > 40*time.Millisecond || kb > 40<<10 { // 10 ms and 25 MB were seen on busy cores
		t.Error("that is too much")
	}
}
