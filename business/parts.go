package business

import (
	"bytes"
	"errors"
	"math"
	"time"

	"syncgate/internal/rowset"
	"syncgate/protocol"
	"syncgate/store"
)

// pagePatience bounds the waiting of a page that can end at any row: its worker is for other points, too.
const pagePatience = 30 * time.Second

// parts turns the rows of a Read into the messages of a download: small ones at first, so that a reader begins to work
// while the rest is read, and while the client reads slowly.
type parts struct {
	r      *Request
	most   int                       // bytes of the largest part that the client takes
	pace   protocol.Pace             // of parts
	large  []store.Unsent            // rows that are larger
	slow   bool                      // the client did not read in time: a paged rule's page ends here
	waited time.Duration             // for the client, in all
	left   int                       // rows that may still come; negative: any number
	state  func() []rowset.StateItem // behind the rows so far; nil: not known before the end

	have    protocol.Held // what the client has of a part
	columns []string
	encoder protocol.RowEncoder
	typed   *typedParts // the v1 wire: it prints values, not CBOR
	keep    *sharedRead // gets the parts instead of the client; nil: they are sent
}

// newParts takes most rows, or any number when most is negative.
func newParts(r *Request, most int) *parts {
	p := &parts{r: r, most: math.MaxInt, left: most}
	if r.MaxPayload > 0 {
		p.most = r.MaxPayload
	}
	if r.Message.Body != nil {
		p.typed = &typedParts{}
	}
	return p
}

// Begin implements store.Sink.
func (p *parts) Begin(statement int, columns []rowset.Column) error {
	if err := p.flush(); err != nil {
		return err
	}
	if p.typed != nil {
		p.typed.begin(statement, columns)
		return nil
	}
	p.columns = make([]string, len(columns))
	for i, c := range columns {
		p.columns[i] = c.Name
	}
	return p.encoder.Begin(uint32(statement), columns)
}

// Row implements store.Sink.
func (p *parts) Row(values []any) error {
	if err := p.row(values); err != nil {
		return err
	}
	if p.left--; p.left == 0 || p.slow && p.left > 0 {
		return store.ErrEnough
	}
	return nil
}

func (p *parts) row(values []any) error {
	if p.typed != nil {
		return p.typed.add(p.r, values)
	}
	size := rowset.Size(values)
	if p.encoder.Rows() > 0 && (p.encoder.Len() >= p.pace.Piece() || p.encoder.Len()+size > p.most) {
		if err := p.flush(); err != nil {
			return err
		}
	}
	if p.encoder.Len()+size > p.most {
		p.large = append(p.large, store.NewUnsent(p.columns, values))
		return nil
	}
	return p.encoder.Append(values)
}

// State implements store.Stateful.
func (p *parts) State(behind func() []rowset.StateItem) { p.state = behind }

// flush sends the collected rows as one part.
func (p *parts) flush() error {
	if p.typed != nil {
		return p.typed.flush(p.r)
	}
	if p.encoder.Rows() == 0 {
		return nil
	}
	var state []rowset.StateItem
	if p.state != nil && len(p.large) == 0 { // else a client would go on behind rows that are not yet put aside
		state = p.state()
	}
	m, err := p.encoder.Part(p.r.Message.RequestID, state)
	if err != nil {
		return err
	}
	m.Have = p.have
	began := time.Now()
	err = p.emit(m)
	took := time.Since(began)
	p.waited += took
	p.pace.Took(len(m.Payload), took)
	if p.left > 0 && (errors.Is(err, ErrSlow) || err == nil && p.waited > pagePatience) {
		p.slow, err = true, nil
	}
	return err
}

// end sends the last part, which says where the page ended.
func (p *parts) end(page store.Page) error {
	if p.typed != nil {
		return p.typed.end(p.r, page)
	}
	m, err := p.encoder.Last(p.r.Message.RequestID, page.State, page.More)
	if err != nil {
		return err
	}
	m.Have = p.have
	return p.emit(m)
}

func (p *parts) emit(m *protocol.Message) error {
	if p.keep == nil {
		return p.r.send(m)
	}
	if !p.keep.keep(m) {
		return errShared
	}
	return nil
}

// errShared ends a read whose page is too large to be shared.
var errShared = errors.New("the page is too large to be shared")

// typedParts collects rows as values, for a wire whose session prints the whole reply at once.
type typedParts struct {
	reply  protocol.DownloadReply
	binary []bool
	size   int // of the values not yet printed
}

func (t *typedParts) begin(statement int, columns []rowset.Column) {
	t.reply, t.binary = protocol.DownloadReply{Statement: uint32(statement), Total: t.reply.Total}, nil
	for _, c := range columns {
		t.reply.Columns = append(t.reply.Columns, c.Name)
		t.reply.Types = append(t.reply.Types, c.Type)
		t.binary = append(t.binary, c.Binary)
	}
}

// typedPart is how many bytes of values are printed at a time.
const typedPart = 256 << 10

// printedSize is how many bytes a value takes while the whole reply is made, for each of its own: its text, its hex
// digits, and room to grow.
const printedSize = 4

func (t *typedParts) add(r *Request, values []any) error {
	for i, v := range values {
		if b, ok := v.([]byte); ok && t.binary[i] {
			v = bytes.Clone(b)
		}
		t.reply.Values = append(t.reply.Values, text(v, t.binary[i]))
	}
	t.reply.Total++
	size := printedSize * rowset.Size(values)
	if r.Payer != nil && !r.Payer.MayTake(int64(size)) {
		if !r.Payer.EverMayTake(r.paid + int64(size)) {
			return errReplyTooLarge
		}
		return ErrBusy
	}
	r.pay(size)
	if t.size += rowset.Size(values); t.size < typedPart {
		return nil
	}
	columns, types := t.reply.Columns, t.reply.Types
	err := t.flush(r)
	t.reply.Columns, t.reply.Types = columns, types
	return err
}

// flush sends the current statement, also when it gave no rows, because its place in the reply counts.
func (t *typedParts) flush(r *Request) error {
	if t.reply.Columns == nil {
		return nil
	}
	part := t.reply
	part.Total = 0
	m := r.Message.Reply(protocol.StatusOK, &part)
	m.Flags = protocol.FlagMore
	t.reply.Columns, t.reply.Values, t.size = nil, make([]any, 0, len(part.Values)), 0
	return r.send(m)
}

func (t *typedParts) end(r *Request, page store.Page) error {
	t.reply.State, t.reply.More = page.State, page.More
	return r.send(r.Message.Reply(protocol.StatusOK, &t.reply))
}

// text returns v, with the driver's bytes of a text column as text.
func text(v any, binary bool) any {
	if b, ok := v.([]byte); ok && !binary && b != nil {
		return string(b)
	}
	return v
}
