package gateway

import (
	"testing"

	"syncgate/protocol"
)

// What the status page shows of a point: its connections, the rows it moved and its last failure.
func TestActivity(t *testing.T) {
	w := newWorld(t)
	k := w.enrol(pointName)
	w.rule("hits", "upload", "*", upsert)
	w.rule("hits", "download", "*", "-- upside: 1\nselect id, url from hits")
	w.serve()
	c := w.connect(k)
	two := upload("hits", int64(1), "a", int64(2), "b")
	for range 2 { // the second is answered from the ledger and moves nothing
		if m := c.Ask(protocol.OpUpload, id(1), two); m.Status != protocol.StatusOK {
			t.Fatal(c.Status(m))
		}
	}
	c.Send(&protocol.Message{Op: protocol.OpDownload, RequestID: id(2), Body: &protocol.DownloadRequest{Table: "hits"}})
	for m := c.Read(); m.More(); m = c.Read() {
	}
	if m := c.Ask(protocol.OpUpload, id(3), upload("none", int64(1), "a")); m.Status != protocol.StatusNoRule {
		t.Fatal(c.Status(m))
	}
	w.eventually("the failure is remembered", func() bool { _, failures := w.Activity(); return len(failures) == 1 })
	all, failures := w.Activity()
	p := all[pointName]
	if p.Conns != 1 || p.Remote == "" || p.RowsUp != 2 || p.RowsDown != 2 || p.Failure != failures[0] {
		t.Errorf("%+v", p)
	}
	if f := failures[0]; f.Status != protocol.StatusNoRule || f.Point != pointName || f.Table != "none" ||
		f.Message == "" || f.At.IsZero() {
		t.Errorf("%+v", f)
	}
	for range maxFailures {
		c.Ask(protocol.OpUpload, id(4), upload("none", int64(1), "a"))
	}
	c.Conn.Close()
	w.eventually("the connection is gone", func() bool { all, _ := w.Activity(); return all[pointName].Conns == 0 })
	if _, failures := w.Activity(); len(failures) != maxFailures {
		t.Errorf("%d failures are remembered", len(failures))
	}
}
