package test

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"syncgate/crypto"
	"syncgate/internal/harness/harnesstest"
	"syncgate/internal/rowset"
	"syncgate/protocol"
)

// attackTime is how long each attack lasts, and whether this is the suite of its own.
func attackTime(t *testing.T) (time.Duration, bool) {
	d, err := time.ParseDuration(os.Getenv("SYNCGATE_TEST_ATTACK"))
	if err != nil {
		return 2 * time.Second, false
	}
	return d, true
}

// longAttack leaves a test to the suite of its own.
func longAttack(t *testing.T) {
	if _, suite := attackTime(t); !suite {
		t.Skip("make test-attacks runs it")
	}
}

// attacked is a server with ordinary points on it.
type attacked struct {
	*World
	t       *testing.T
	server  *Process
	address string
	legacy  string
	greedy  crypto.Key
	others  []*harnesstest.Client
	ends    time.Time // of the attack
}

func newAttacked(t *testing.T, settings ...string) *attacked {
	t.Helper()
	w := New(t)
	a := &attacked{World: w, t: t}
	w.Centre.Must("CREATE TABLE t (id BIGINT PRIMARY KEY, v LONGTEXT NULL)")
	w.Centre.Must("CREATE TABLE big (id BIGINT PRIMARY KEY, v LONGTEXT NULL)")
	const upsert = "-- downside: insert\ninsert into %s (id, v) values (:id, :v) on duplicate key update v = values(v)"
	for _, table := range []string{"t", "big"} {
		w.Centre.Must("INSERT INTO sync_control (sync_table, sync_type, sync_user, sync_field, sync_sql) "+
			"VALUES (?, 'upload', 'server', '[\"id\",\"v\"]', ?)", table, fmt.Sprintf(upsert, table))
	}
	w.Centre.Must("INSERT INTO sync_control (sync_table, sync_type, sync_user, sync_sql) " +
		"VALUES ('big', 'download', 'server', '-- upside: select\nselect id, v from big')")
	w.Env = append(append(w.Env, "SYNCGATE_MAX_BUFFERED=64MiB", "SYNCGATE_HANDSHAKES_PER_SECOND=2000"),
		legacySettings()...)
	w.Env = append(w.Env, settings...)
	a.greedy = a.enrol("greedy")
	var keys []crypto.Key
	for i := range attackOrdinary {
		keys = append(keys, a.enrol(fmt.Sprintf("ordinary-%02d", i)))
	}
	a.server = w.Serve()
	line := a.server.WaitLog("listening")
	a.address, _ = line["address"].(string)
	a.legacy, _ = line["legacy"].(string)
	for _, k := range keys {
		a.others = append(a.others, a.dial(k))
	}
	return a
}

func (a *attacked) enrol(name string) crypto.Key {
	a.t.Helper()
	var k struct {
		KeyID uint32 `json:"key_id"`
		Key   []byte `json:"key"`
	}
	if err := json.Unmarshal([]byte(a.Must("point", "add", name, "--format", "json")), &k); err != nil {
		a.t.Fatal(err)
	}
	return crypto.Key{Point: name, ID: k.KeyID, Secret: [crypto.KeySize]byte(k.Key)}
}

func (a *attacked) dial(k crypto.Key) *harnesstest.Client {
	a.t.Helper()
	c, err := harnesstest.Handshake(a.t, a.address, k)
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// serveOthers has every ordinary point ping and upload until stop is closed, and returns the 99th percentile of both.
func (a *attacked) serveOthers(stop <-chan struct{}) (p99 time.Duration) {
	a.t.Helper()
	var mu sync.Mutex
	var took []time.Duration
	var all sync.WaitGroup
	for i, c := range a.others {
		all.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				case <-time.After(20 * time.Millisecond): // an ordinary point is idle most of the time
				}
				begun := time.Now()
				c.Ask(protocol.OpPing, c.Wire.RequestID(), nil)
				rows := rowset.Rows{Columns: []string{"id", "v"}, Values: []any{int64(i*1_000_000 + n), "x"}}
				if status, _ := c.Upload("t", rows); status != protocol.StatusOK {
					a.t.Errorf("an ordinary point was refused: %v", status)
				}
				mu.Lock()
				took = append(took, time.Since(begun))
				mu.Unlock()
			}
		})
	}
	all.Wait()
	slices.Sort(took)
	return took[len(took)*99/100]
}

// run lets the ordinary points work alone, then beside the attack, and compares. attack returns when over is closed.
func (a *attacked) run(attack func(over <-chan struct{})) {
	a.t.Helper()
	lasts, suite := attackTime(a.t)
	alone := make(chan struct{})
	time.AfterFunc(lasts/2, func() { close(alone) })
	before := a.serveOthers(alone)

	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		attack(over)
	}()
	peak := atomic.Int64{}
	go func() {
		for {
			select {
			case <-ended:
				return
			case <-time.After(20 * time.Millisecond):
				peak.Store(max(peak.Load(), resident(a.server.Pid())))
			}
		}
	}()
	time.AfterFunc(lasts, func() { close(over) })
	beside := a.serveOthers(over)
	<-ended
	a.t.Logf("p99 of the ordinary points: %v alone, %v beside the attack; peak memory %d MiB", before, beside,
		peak.Load()>>20)
	most := max(4*before, 3*time.Second) // other tests run beside this one
	if suite {
		most = max(2*before, 100*time.Millisecond)
	}
	if Race {
		return // the detector takes time and memory of its own
	}
	if beside > most {
		a.t.Errorf("the ordinary points wait %v at the 99th percentile, alone %v", beside, before)
	}
	if peak.Load() > attackBound+attackSlack {
		a.t.Errorf("%d MiB are resident, %d are the bound", peak.Load()>>20, (attackBound+attackSlack)>>20)
	}
}

// resident is the resident memory of a process.
func resident(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	fields := strings.Fields(string(text))
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// each runs n copies of f beside each other until all return.
func each(n int, f func(i int)) {
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() { f(i) })
	}
	all.Wait()
}

// from connects from one of this host's own addresses, 127.0.x.y.
func (a *attacked) from(i int, to string) net.Conn {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(i>>8), byte(i))}, Timeout: time.Second}
	c, err := d.Dial("tcp", to)
	if err != nil {
		return nil
	}
	return c
}
