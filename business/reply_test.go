package business

import (
	"testing"

	"syncgate/protocol"
	"syncgate/store"
)

// An upload that is committed is answered, however many of its rows were refused and however small the frames are.
func TestReplyFitsTheFrame(t *testing.T) {
	o := &store.Outcome{Applied: 10, LeftOut: 5, Quarantined: make([]store.Quarantined, 20_000)}
	for i := range o.Quarantined {
		o.Quarantined[i] = store.Quarantined{Row: i, Code: 1366}
	}
	for _, frame := range []int{0, 64 << 10, 1 << 20, 16 << 20} {
		reply, err := uploadReply(o, frame)
		if err != nil {
			t.Fatal(err)
		}
		payload, err := protocol.AppendPayload(nil, reply)
		if err != nil {
			t.Fatal(err)
		}
		if n := uint64(len(reply.Quarantined)) + reply.LeftOut; n != 20_005 {
			t.Errorf("frame %d: %d rows are accounted for", frame, n)
		}
		if frame > 0 && len(payload)+protocol.RecordOverhead > frame || len(payload) < min(frame/2, 256<<10) {
			t.Errorf("frame %d: the reply has %d bytes", frame, len(payload))
		}
	}
}
