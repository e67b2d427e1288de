package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"syncgate/internal/rowset"
	"syncgate/protocol"

	"syncgate/internal/harness/harnesstest"
)

// TestPythonLegacyClient runs the client that was written from docs/protocol.md for a whole session, as an agent under
// Python 3 and as one under Python 2. The client checks each reply's token as those agents do: it evaluates the text
// and prints Content again.
func TestPythonLegacyClient(t *testing.T) {
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import cryptography").Run(); err != nil {
		t.Skipf("no python3 with cryptography: %v", err)
	}
	for _, tt := range []struct {
		name, flag        string
		download, nothing string
	}{
		{"python3", "", `[[('中 "it\'s"', 3, Decimal('1.50'), datetime.timedelta(days=-1, seconds=82800), b'\xff'), ` +
			`(None, None, Decimal('0E-10'), None, b'')]]`, "[]"},
		{"python2", "--python2", `[[(u'\u4e2d "it\'s"', 3L, Decimal('1.50'), datetime.timedelta(-1, 82800), '\xff'), ` +
			`(None, None, Decimal('0E-10'), None, '')]]`, "[]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			centre := newLegacyCentre(t)
			host, port, err := net.SplitHostPort(centre.listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			args := []string{"-B", "-W", "ignore", filepath.Join("pyclient", "legacy.py"), host, port, legacyKeyHex,
				legacyKeyHex, legacyTokenKey, "point-01"}
			if tt.flag != "" {
				args = append(args, tt.flag)
			}
			cmd := exec.CommandContext(t.Context(), python, args...)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("%v: %s", err, stderr.Bytes())
			}
			var got any
			if err := json.Unmarshal(out, &got); err != nil {
				t.Fatal(err)
			}
			want, err := json.Marshal(map[string]any{
				"upload": []any{nil, nil}, "again": []any{nil, nil}, "download": []any{tt.download, nil},
				"nothing": []any{tt.nothing, nil},
				"ragged":  []any{nil, "Client_Data_Pack_Error"}, "refused": []any{nil, "Info_Certification_Error"},
				"closed": true,
			})
			if err != nil {
				t.Fatal(err)
			}
			if sorted, _ := json.Marshal(got); !bytes.Equal(sorted, want) {
				t.Errorf("the client saw\n%s\nwant\n%s", sorted, want)
			}
			centre.check(t)
		})
	}
}

const (
	legacyKeyHex   = "30313233343536373839616263646566"
	legacyTokenKey = "token key"
)

// legacyCentre serves the v1 wire with a LegacySession a connection and a business of a few lines.
type legacyCentre struct {
	listener net.Listener
	wire     *protocol.Legacy
	done     sync.WaitGroup

	mu      sync.Mutex
	uploads map[protocol.RequestID]int
	states  []rowset.StateItem
	errs    []error
}

func newLegacyCentre(t *testing.T) *legacyCentre {
	t.Helper()
	c := &legacyCentre{uploads: make(map[protocol.RequestID]int)}
	var err error
	c.wire, err = protocol.NewLegacy(protocol.LegacyOptions{
		Key: []byte("0123456789abcdef"), TokenKey: legacyTokenKey, Zone: time.UTC, Clock: time.Now,
		Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Allow:    func(point string) bool { return point == "point-01" },
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	c.done.Go(c.accept)
	t.Cleanup(func() {
		c.listener.Close()
		c.done.Wait()
	})
	return c
}

func (c *legacyCentre) accept() {
	for {
		conn, err := c.listener.Accept()
		if err != nil {
			return
		}
		c.done.Go(func() {
			defer conn.Close()
			if err := c.serve(conn); err != nil {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.errs = append(c.errs, err)
			}
		})
	}
}

// serve does a gateway's work for one connection.
func (c *legacyCentre) serve(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(harnesstest.Patience)); err != nil {
		return err
	}
	session, err := c.wire.NewSession(netip.MustParseAddrPort(conn.RemoteAddr().String()).Addr())
	if err != nil {
		return err
	}
	var buf []byte
	for {
		n, err := protocol.SplitLegacy(buf, session.MaxFrame())
		if err != nil {
			return err
		}
		if n == 0 {
			segment := make([]byte, 4096)
			n, err := conn.Read(segment)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			buf = append(buf, segment[:n]...)
			continue
		}
		e, err := session.Receive(buf[:n])
		buf = buf[n:]
		if err != nil {
			return err
		}
		if e.Reject != nil {
			wait := time.NewTimer(e.RejectAfter)
			<-wait.C
			_, err := conn.Write(e.Reject)
			return err
		}
		if _, err := conn.Write(e.Reply); err != nil {
			return err
		}
		if e.Message == nil {
			continue
		}
		for _, m := range c.answer(e.Message) {
			if err := session.Send(m, func(packet []byte) error {
				_, err := conn.Write(packet)
				return err
			}); err != nil {
				return err
			}
		}
	}
}

// answer is the business. It records the requests and has three rows for a download of the black list.
func (c *legacyCentre) answer(m *protocol.Message) []*protocol.Message {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.Op == protocol.OpUpload {
		c.uploads[m.RequestID]++
		return []*protocol.Message{m.Reply(protocol.StatusOK,
			&protocol.UploadReply{Duplicate: c.uploads[m.RequestID] > 1})}
	}
	d, err := m.DownloadRequest()
	if err != nil || d.Table != "black_list" {
		return []*protocol.Message{m.Reply(protocol.StatusOK, &protocol.DownloadReply{})}
	}
	c.states = append(c.states, d.State...)
	columns, types := []string{"a", "b", "c", "d", "e"}, []string{"VARCHAR", "INT", "DECIMAL", "TIME", "BLOB"}
	first := m.Reply(protocol.StatusOK, &protocol.DownloadReply{Columns: columns, Types: types,
		Values: []any{`中 "it's"`, int64(3), "1.50", "-01:00:00", []byte{0xff}}})
	first.Flags = protocol.FlagMore
	return []*protocol.Message{first, m.Reply(protocol.StatusOK, &protocol.DownloadReply{Columns: columns, Types: types,
		Values: []any{nil, nil, "0.0000000000", nil, []byte{}}})}
}

// check fails unless the repeated upload was one request and the state arrived.
func (c *legacyCentre) check(t *testing.T) {
	t.Helper()
	c.listener.Close()
	c.done.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := errors.Join(c.errs...); err != nil {
		t.Error(err)
	}
	if len(c.uploads) != 1 {
		t.Errorf("%d uploads, want one that came twice", len(c.uploads))
	}
	for id, n := range c.uploads {
		if n != 2 || id.Epoch()&protocol.LegacyEpoch == 0 {
			t.Errorf("upload %v came %d times", id, n)
		}
	}
	if len(c.states) != 1 || c.states[0] != (rowset.StateItem{Name: "update_time", Value: "1970-01-01 00:00:00"}) {
		t.Errorf("states %v", c.states)
	}
}
