package protocol

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"syncgate/internal/account"
	"syncgate/internal/rowset"
)

// inPieces is a pair that takes messages in pieces, the server of up to 2 MiB and the client of up to 1.
func inPieces(t *testing.T, packs bool, ledger *account.Ledger) *pair {
	t.Helper()
	p := newPair(t, func(so *ServerOptions, co *ClientOptions) {
		so.MaxFrame, so.MaxMessage, so.Ledger = minMaxFrame, 2<<20, ledger
		co.Holds, co.Packs = NewHolds(1<<20, nil, co.Clock), packs
	})
	p.greet(t)
	p.confirm(t)
	return p
}

// again connects the same client once more.
func (p *pair) again(t *testing.T) {
	t.Helper()
	p.session = p.server.NewSession(netip.MustParseAddr("192.0.2.1"))
	var err error
	if p.client, err = NewClient(p.client.opts); err != nil {
		t.Fatal(err)
	}
	p.greet(t)
	p.confirm(t)
}

// hard is text that hardly packs.
func hard(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.IntN(94) + 33)
	}
	return string(b)
}

func uploadOf(seq uint64, text string) *Message {
	return &Message{Op: OpUpload, RequestID: MakeRequestID(9, seq), Body: &UploadRequest{Table: "things",
		Rows: rowset.Rows{Columns: []string{"name"}, Values: []any{text}}}}
}

// next sends the next record of o to the server.
func (p *pair) next(t *testing.T, o *Outgoing) (e Event, more bool) {
	t.Helper()
	frame, more, err := p.client.Next(nil, o, 1<<20)
	if err == nil {
		if len(frame) > minMaxFrame+frameOverhead {
			t.Fatalf("a frame of %d bytes", len(frame))
		}
		e, err = p.session.Receive(frame)
	}
	if err != nil {
		t.Fatal(err)
	}
	return e, more
}

func (p *pair) prepare(t *testing.T, m *Message) *Outgoing {
	t.Helper()
	o, err := p.client.Prepare(m)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func TestPiecesOfSeveralMessages(t *testing.T) {
	for _, packs := range []bool{false, true} {
		p := inPieces(t, packs, account.New(64<<20))
		texts := []string{hard(50_000), hard(9_000), "short", strings.Repeat("a text that packs well ", 20_000)}
		var ways []*Outgoing
		for i, text := range texts {
			ways = append(ways, p.prepare(t, uploadOf(uint64(i), text)))
		}
		if got := ways[3].Size() < 20_000; got != packs {
			t.Errorf("packs %v: %d bytes travel", packs, ways[3].Size())
		}
		done := 0
		for left := len(ways); left > 0; {
			for i, o := range ways {
				if o == nil {
					continue
				}
				e, more := p.next(t, o)
				if more != (e.Message == nil) {
					t.Fatalf("more %v, but %+v", more, e)
				}
				if more {
					continue
				}
				ways[i] = nil
				left--
				if e.Message.Table() != "things" || e.Message.Flags&^flagPacked != 0 {
					t.Errorf("%+v", e.Message)
				}
				if err := e.Message.Unpack(); err != nil {
					t.Fatal(err)
				}
				u, err := e.Message.UploadRequest()
				if err != nil || u.Rows.Values[0] != texts[i] || e.Message.RequestID.Seq() != uint64(i) {
					t.Fatalf("message %d is %v", i, err)
				}
				done++
			}
		}
		if done != len(texts) || p.server.holds.ledger.Used() != 0 {
			t.Errorf("%d messages, %d bytes are still charged", done, p.server.holds.ledger.Used())
		}
	}
}

func TestMessageGoesOnAfterACut(t *testing.T) {
	p := inPieces(t, true, account.New(64<<20))
	up := uploadOf(1, hard(60_000))
	o := p.prepare(t, up)
	for range 5 {
		p.next(t, o)
	}
	p.again(t)
	held := p.up(t, &Message{Op: OpHeld, RequestID: MakeRequestID(3, 3), Body: &HeldRequest{o.Digest()}})
	asked, err := held.Message.HeldRequest()
	if err != nil {
		t.Fatal(err)
	}
	n := p.session.Held(asked).Bytes
	if n == 0 || n > 5*minMaxFrame {
		t.Fatalf("%d bytes have come", n)
	}
	up.RequestID = MakeRequestID(9, 77) // the rows are the same, the number is not
	o = p.prepare(t, up)
	o.Skip(n)
	records := 0
	e, more := p.next(t, o)
	for records++; more; records++ {
		e, more = p.next(t, o)
	}
	if e.Message == nil || records > 11 {
		t.Fatalf("%+v after %d records", e, records)
	}
	if err := e.Message.Unpack(); err != nil {
		t.Fatal(err)
	}
	if u, err := e.Message.UploadRequest(); err != nil || u.Rows.Values[0] != up.Body.(*UploadRequest).Rows.Values[0] {
		t.Fatal("other rows", err)
	}

	// A reply goes on likewise.
	reply := &Message{Op: OpDownload, RequestID: MakeRequestID(4, 4), Body: &DownloadReply{Columns: []string{"a"},
		Types: []string{"TEXT"}, Values: []any{hard(40_000)}}}
	frames := 0
	cut := errors.New("cut")
	pace := func() (int, error) { return minMaxFrame, nil }
	err = p.session.SendPaced(reply, pace, func(frame []byte, _ bool) error {
		if frames++; frames == 4 {
			return cut
		}
		_, err := p.client.Receive(bytes.Clone(frame))
		return err
	})
	have := p.client.Held(reply.RequestID)
	if !errors.Is(err, cut) || have.Bytes == 0 {
		t.Fatal(err, have)
	}
	p.again(t)
	reply.RequestID, reply.Have, frames = MakeRequestID(4, 5), have, 0
	var whole *Message
	err = p.session.SendPaced(reply, pace, func(frame []byte, _ bool) (err error) {
		frames++
		whole, err = p.client.Receive(bytes.Clone(frame))
		return err
	})
	if err != nil || whole == nil || frames > 8 {
		t.Fatal(err, whole, frames)
	}
	if d, err := whole.DownloadReply(); err != nil || d.Values[0] != reply.Body.(*DownloadReply).Values[0] {
		t.Fatal("other rows", err)
	}
	p.now = p.now.Add(time.Hour)
	if p.server.Sweep(); p.server.holds.ledger.Used() != 0 {
		t.Errorf("%d bytes are still charged", p.server.holds.ledger.Used())
	}
}

func TestPiecesRefused(t *testing.T) {
	head := func(size, offset uint32, b string) []byte {
		sum := sha256.Sum256([]byte(b))
		h := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, size), offset)
		return append(append(h, sum[:]...), b...)
	}
	ledger := account.New(1 << 20)
	greedy := ledger.Point("point-01")
	for name, test := range map[string]struct {
		op      Op // 0: an upload
		payload []byte
		flags   uint8
		held    int64
		want    Status
	}{
		"no head":              {payload: []byte("part"), flags: flagPiece},
		"a short head":         {payload: []byte("part"), flags: flagPiece | flagHead, want: StatusMalformed},
		"larger than is taken": {payload: head(2<<20+1, 0, "x"), flags: flagPiece | flagHead, want: StatusTooLarge},
		"larger than is read at once": {op: OpHeld, payload: head(1<<20+1, 0, "x"), flags: flagPiece | flagHead,
			want: StatusTooLarge},
		"more than was said":   {payload: head(3, 0, "four"), flags: flagPiece | flagHead, want: StatusMalformed},
		"goes on from nothing": {payload: head(9, 5, "four"), flags: flagPiece | flagHead, want: StatusBusy},
		"no memory": {payload: head(1<<19, 0, "x"), flags: flagPiece | flagHead, held: 1 << 20,
			want: StatusBusy},
		"packed without a head":  {payload: []byte{0, 0, 1}, flags: flagPacked, want: StatusMalformed},
		"more than DEFLATE does": {payload: []byte{0, 15, 0, 0, 0, 0, 1, 2}, flags: flagPacked, want: StatusMalformed},
		"a large one": {payload: append([]byte{8, 0, 0, 0, 0, 0}, make([]byte, 5<<19)...), flags: flagPacked,
			want: StatusTooLarge},
		"a large one that is read at once": {op: OpSubscribe, flags: flagPacked,
			payload: append([]byte{0, 16, 0, 1, 0, 0}, make([]byte, 2000)...), want: StatusTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			p := inPieces(t, true, ledger)
			greedy.Add(test.held)
			defer greedy.Add(-test.held)
			p.session.records.Load().max, p.client.records.max = HardMaxFrame, HardMaxFrame
			frame, err := p.client.Seal(nil, &Message{Op: cmp.Or(test.op, OpUpload), Flags: test.flags,
				RequestID: MakeRequestID(9, 9), Payload: test.payload})
			if err != nil {
				t.Fatal(err)
			}
			e, err := p.session.Receive(frame)
			if err != nil || StatusOf(e.Refused) != test.want || (e.Message != nil) != (test.want != 0) {
				t.Fatalf("%+v, %v", e, err)
			}
			if used := ledger.Used(); used != test.held {
				t.Errorf("%d bytes are charged", used-test.held)
			}
		})
	}
}

func TestPiecesMakeRoom(t *testing.T) {
	ledger := account.New(64 << 20)
	p := inPieces(t, false, ledger)
	for i := range uint64(5 * mostHeld) {
		p.next(t, p.prepare(t, uploadOf(i, hard(6_000))))
	}
	for _, x := range p.session.joiner.open {
		if x.owner == nil && x.data != nil {
			t.Fatal("the connection keeps the bytes of a message that was dropped")
		}
	}
	if n := len(p.session.joiner.open); n > 2*mostHeld {
		t.Errorf("the connection remembers %d messages", n)
	}
	if n := len(p.server.holds.kept["point-01"]); n != mostHeld || ledger.Used() > mostHeld*7_000 {
		t.Errorf("%d messages with %d bytes are kept", n, ledger.Used())
	}
}

// A packed request is read as it is, and one whose payload was dropped can still be answered.
func TestPackedRequestWithoutItsPayload(t *testing.T) {
	payload, err := AppendPayload(nil, uploadOf(1, strings.Repeat("packs well ", 100)).Body)
	if err != nil {
		t.Fatal(err)
	}
	m := &Message{Op: OpUpload, Flags: flagPacked, RequestID: MakeRequestID(1, 1), Payload: pack(payload, 6)}
	if m.Table() != "things" {
		t.Errorf("table %q", m.Table())
	}
	dropped := *m
	dropped.Payload = nil
	if dropped.Table() != "" || dropped.Packed() != 0 {
		t.Errorf("table %q", dropped.Table())
	}
	if _, err := dropped.UploadRequest(); err == nil {
		t.Error("nothing was read")
	}
	if u, err := m.UploadRequest(); err != nil || u.Table != "things" {
		t.Error(u, err)
	}
}

func TestUnpackRefuses(t *testing.T) {
	good := pack(bytes.Repeat([]byte("packs well "), 100), 4)
	for name, p := range map[string][]byte{
		"good": good, "cut": good[:len(good)-3], "longer": append(bytes.Clone(good), 1),
		"another size": append([]byte{0, 0, 4, 0}, good[4:]...),
		"damaged":      append(bytes.Clone(good[:50]), 0xff, 0xff, 0xff),
	} {
		m := &Message{Flags: flagPacked, Payload: p}
		if err := m.Unpack(); (err == nil) != (name == "good") && name != "longer" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// piecesVector is testdata/pieces: a payload, the payloads of the records that carry it, and it packed.
type piecesVector struct {
	About   string        `json:"about"`
	Payload string        `json:"payload"`
	Pieces  []pieceVector `json:"pieces"`
	Packed  string        `json:"packed"`
}

type pieceVector struct {
	Flags   uint8  `json:"flags"`
	Payload string `json:"payload"`
}

// makePieces makes the vector of a message in pieces, which goes on behind the first 512 bytes, and of a packed one.
// Its DEFLATE has one stored block, since programs pack differently.
func makePieces(t *testing.T, made map[string]any) {
	t.Helper()
	payload, err := AppendPayload(nil, uploadOf(1, strings.Repeat("a row, ", 300)).Body)
	if err != nil {
		t.Fatal(err)
	}
	v := &piecesVector{About: "an UPLOAD's payload from byte 512 on, in pieces of up to 1024 bytes; and the whole " +
		"payload packed",
		Payload: hex.EncodeToString(payload)}
	o := &Outgoing{payload: payload}
	o.Skip(512)
	h := NewHolds(1<<20, nil, time.Now)
	j := &joiner{holds: h}
	h.kept[""] = []*held{{digest: string(o.Digest()), size: len(payload), data: bytes.Clone(payload[:512])}}
	for more := true; more; {
		var m Message
		m, more = o.next(1024)
		v.Pieces = append(v.Pieces, pieceVector{m.Flags, hex.EncodeToString(m.Payload)})
		if whole, err := j.add(&m, 1<<20); err != nil || whole == more || whole && !bytes.Equal(m.Payload, payload) {
			t.Fatalf("joined: %v, %v", whole, err)
		}
	}
	const plain = 40
	packed := binary.BigEndian.AppendUint32(nil, uint32(len(payload)))
	packed = append(binary.BigEndian.AppendUint16(packed, plain), payload[:plain]...)
	rest := payload[plain:]
	packed = binary.LittleEndian.AppendUint16(append(packed, 1), uint16(len(rest)))
	packed = append(binary.LittleEndian.AppendUint16(packed, ^uint16(len(rest))), rest...)
	m := &Message{Flags: flagPacked, Payload: packed}
	if err := errors.Join(m.checkPacked(1<<20), m.Unpack()); err != nil || !bytes.Equal(m.Payload, payload) {
		t.Fatal(err)
	}
	v.Packed = hex.EncodeToString(packed)
	made["pieces/upload"] = v
}
