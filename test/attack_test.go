package test

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"io"
	"net"
	"os"
	"os/exec"
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

func TestAttackHalfFrames(t *testing.T) {
	a := newAttacked(t)
	a.run(func(over <-chan struct{}) {
		head := append([]byte("\xc5SG\x02\x03\x00\x00\x00"),
			binary.BigEndian.AppendUint32(nil, protocol.DefaultMaxFrame)...)
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
			c.Send(&protocol.Message{Op: protocol.OpDownload, RequestID: c.Wire.RequestID(),
				Body: &protocol.DownloadRequest{Table: "big"}})
			<-over
			c.Conn.Close()
		})
	})
	c := a.others[0]
	if d := c.Download(c.Wire.RequestID(), &protocol.DownloadRequest{Table: "big"}); d.Status != protocol.StatusOK ||
		d.Rows.Len() != 3000 {
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
			m := &protocol.Message{Op: protocol.OpUpload, RequestID: c.Wire.RequestID(),
				Body: &protocol.UploadRequest{Table: "big", Rows: rows}}
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
