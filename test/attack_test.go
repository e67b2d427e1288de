package test

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"syncgate/crypto"
	"syncgate/internal/harness/harnesstest"
	"syncgate/internal/pyliteral"
	"syncgate/internal/rowset"
	"syncgate/protocol"
)

// The attack tests set one greedy client, or many strangers, beside ordinary points, and hold the server to three
// promises: the ordinary points are served as if they were alone, memory stays at its bound, and the log names the
// greedy. `make test-attacks` gives each attack more time and holds the latencies to the tighter bound.

const (
	attackBound    = 64 << 20 // max_buffered in these tests
	attackSlack    = 64 << 20 // resident memory beside it
	attackOrdinary = 20
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
	w.Env = append(append(w.Env, "SYNCGATE_MAX_BUFFERED=64MiB", "SYNCGATE_HANDSHAKES_PER_SECOND=2000"), legacySettings()...)
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
	a.t.Logf("p99 of the ordinary points: %v alone, %v beside the attack; peak memory %d MiB", before, beside, peak.Load()>>20)
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

func TestAttackHalfFrames(t *testing.T) {
	a := newAttacked(t)
	a.run(func(over <-chan struct{}) {
		head := append([]byte("\xc5SG\x02\x03\x00\x00\x00"), binary.BigEndian.AppendUint32(nil, protocol.DefaultMaxFrame)...)
		part := append(head, make([]byte, protocol.DefaultMaxFrame-4096)...)
		each(200, func(int) {
			c := a.dial(a.greedy)
			c.Ask(protocol.OpPing, c.Wire.RequestID(), nil)
			go c.Conn.Write(part) // what the server does not read stays in the kernel's buffers
			<-over
			c.Conn.Close()
		})
	})
}

func TestAttackHalfPacketsOfStrangers(t *testing.T) {
	a := newAttacked(t)
	a.run(func(over <-chan struct{}) {
		part := bytes.Repeat([]byte("0123456789abcdef"), 3<<20/16)
		each(100, func(i int) {
			c := a.from(i, a.legacy)
			if c == nil {
				return
			}
			defer c.Close()
			go c.Write(part)
			<-over
		})
	})
}

func TestAttackQueuedUploads(t *testing.T) {
	longAttack(t)
	a := newAttacked(t)
	var busy atomic.Int64
	a.run(func(over <-chan struct{}) {
		value := strings.Repeat("x", 900<<10)
		each(16, func(i int) {
			c := a.dial(a.greedy)
			go func() { <-over; c.Conn.Close() }()
			for n := 0; ; n++ {
				id := c.Wire.RequestID()
				m := &protocol.Message{Op: protocol.OpUpload, RequestID: id, Body: &protocol.UploadRequest{Table: "big",
					Rows: rowset.Rows{Columns: []string{"id", "v"}, Values: []any{int64(i), value}}}}
				frame, err := c.Wire.Seal(nil, m)
				if err == nil {
					_, err = c.Conn.Write(frame)
				}
				if err != nil {
					return
				}
				if n >= 8 { // so many wait for their replies
					if m, err := c.Next(); err != nil {
						return
					} else if m != nil && m.Status == protocol.StatusBusy {
						busy.Add(1)
					}
				}
			}
		})
	})
	if busy.Load() > 0 {
		a.server.WaitLine("the greedy point is named", func(line map[string]any) bool {
			text, _ := line["message"].(string)
			return line["point"] == "greedy" && strings.Contains(text, "share")
		})
	}
}

func TestAttackSlowReaders(t *testing.T) {
	longAttack(t)
	a := newAttacked(t)
	a.Centre.Must("INSERT INTO big SELECT seq, REPEAT('x', 10000) FROM seq_1_to_3000")
	second := a.enrol("second")
	a.run(func(over <-chan struct{}) {
		keys := []crypto.Key{a.greedy, second}
		each(24, func(i int) {
			c := a.dial(keys[i%2])
			c.Send(&protocol.Message{Op: protocol.OpDownload, RequestID: c.Wire.RequestID(), Body: &protocol.DownloadRequest{Table: "big"}})
			<-over
			c.Conn.Close()
		})
	})
	c := a.others[0]
	if d := c.Download(c.Wire.RequestID(), &protocol.DownloadRequest{Table: "big"}); d.Status != protocol.StatusOK || d.Rows.Len() != 3000 {
		t.Errorf("an ordinary point's download: %v, %d rows", d.Text, d.Rows.Len())
	}
}

func TestAttackLegacyRepliesThatNobodyReads(t *testing.T) {
	a := newAttacked(t)
	a.Centre.Must("INSERT INTO big SELECT seq, REPEAT('x', 10000) FROM seq_1_to_1400")
	a.enrol("old")
	a.run(func(over <-chan struct{}) {
		each(40, func(int) {
			c := dialLegacy(t, a.legacy, pyliteral.Python2)
			c.send(c.packet("old", "DOLOAD_DB", "big", pyliteral.List{}))
			<-over
			c.conn.Close()
		})
	})
}

func TestAttackSilentStrangers(t *testing.T) {
	a := newAttacked(t)
	a.run(func(over <-chan struct{}) {
		each(1500, func(i int) {
			c := a.from(i, a.address)
			if c == nil {
				return
			}
			defer c.Close()
			<-over
		})
	})
	// The strangers had all places, and a point still came in.
	a.dial(a.greedy)
}

func TestAttackBogusHellos(t *testing.T) {
	longAttack(t)
	a := newAttacked(t, "SYNCGATE_HANDSHAKES_PER_SECOND=500")
	a.run(func(over <-chan struct{}) {
		bogus := a.greedy
		_, _ = rand.Read(bogus.Secret[:])
		wire, err := protocol.NewClient(protocol.ClientOptions{Point: bogus.Point, KeyID: bogus.ID, Key: bogus.Secret,
			Clock: time.Now, Rand: rand.Reader})
		if err != nil {
			t.Error(err)
			return
		}
		hello, err := wire.Hello()
		if err != nil {
			t.Error(err)
			return
		}
		var all sync.WaitGroup
		all.Go(func() { // agents that come meanwhile
			for {
				select {
				case <-over:
					return
				case <-time.After(100 * time.Millisecond):
					c := a.dial(a.greedy)
					c.Ask(protocol.OpPing, c.Wire.RequestID(), nil)
					c.Conn.Close()
				}
			}
		})
		each(40, func(i int) {
			for {
				select {
				case <-over:
					return
				case <-time.After(20 * time.Millisecond):
				}
				if c := a.from(i, a.address); c != nil {
					_, _ = c.Write(hello)
					_, _ = io.ReadFull(c, make([]byte, 4))
					c.Close()
				}
			}
		})
		all.Wait()
	})
}

func TestAttackSlowPackets(t *testing.T) {
	longAttack(t)
	a := newAttacked(t)
	c := dialLegacy(t, a.legacy, pyliteral.Python2)
	for name, text := range map[string]string{
		"denormal floats": "{'userid': [" + strings.Repeat("1e-320,", 200_000) + "]}",
		"dicts":           "{'userid': [" + strings.Repeat("{'a':1,'b':2},", 120_000) + "]}",
	} {
		t.Run(name, func(t *testing.T) {
			packet := c.seal(text)
			a.run(func(over <-chan struct{}) {
				each(4, func(i int) {
					for {
						c := a.from(i, a.legacy)
						if c == nil {
							return
						}
						go func() { <-over; c.Close() }()
						_, _ = c.Write(packet)
						_, _ = io.ReadAll(c)
						select {
						case <-over:
							return
						default:
						}
					}
				})
			})
		})
	}
}

func TestAttackLockedTable(t *testing.T) {
	a := newAttacked(t)
	tx, err := a.Centre.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback() //nolint:errcheck // nothing was changed
	a.Centre.Must("INSERT INTO big VALUES (1, 'x')")
	if _, err := tx.Exec("UPDATE big SET v = 'locked' WHERE id = 1"); err != nil {
		t.Fatal(err)
	}
	a.run(func(over <-chan struct{}) {
		each(30, func(i int) {
			c := a.dial(a.greedy)
			go func() { <-over; c.Conn.Close() }()
			rows := rowset.Rows{Columns: []string{"id", "v"}, Values: []any{int64(1), strings.Repeat("y", 50<<10)}}
			m := &protocol.Message{Op: protocol.OpUpload, RequestID: c.Wire.RequestID(), Body: &protocol.UploadRequest{Table: "big", Rows: rows}}
			if frame, err := c.Wire.Seal(nil, m); err == nil {
				_, _ = c.Conn.Write(frame)
			}
			<-over
		})
	})
}

// A log that nobody reads holds nobody up: the server drops lines and counts them.
func TestAttackUnreadLog(t *testing.T) {
	a := newAttacked(t, "SYNCGATE_HANDSHAKES_PER_SECOND=100000")
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	a.server.Stop()
	cmd := exec.Command(Program(t, "syncgate"), "serve")
	cmd.Env = append(append(os.Environ(), "SYNCGATE_LOG_FORMAT=json", "SYNCGATE_LOG_LEVEL=trace"), a.Env...)
	cmd.Stderr = writer
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	writer.Close()
	defer func() {
		_ = cmd.Process.Kill() // its log is not read, and with it the reason of an early end
		_ = cmd.Wait()
	}()
	var c *harnesstest.Client
	Eventually(t, func() string { return "the server listens" }, func() bool {
		conn, err := net.Dial("tcp", a.address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	// Each connection gives lines at this level; a pipe has room for some hundred.
	for range 400 {
		c = a.dial(a.greedy)
		c.Conn.Close()
	}
	c = a.dial(a.greedy)
	c.Ask(protocol.OpPing, c.Wire.RequestID(), nil)
}
