package gateway

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"syncgate/business"
	"syncgate/protocol"
)

// tap shows each request when it is answered to those who watch. Nobody waits for them.
type tap struct {
	lines  feed[TapLine]
	values atomic.Int32 // watchers who want values
}

const (
	tapLines  = 4096 // that a watcher may be behind
	tapRows   = 3    // of which values are shown
	tapValue  = 64   // bytes of a value
	tapValues = 1024 // bytes of all
)

// TapLine is a request that was answered.
type TapLine struct {
	At     time.Time `json:"at"`
	Point  string    `json:"point"`
	Op     string    `json:"op"`
	Table  string    `json:"table,omitempty"`
	Rows   uint64    `json:"rows"`
	Bytes  uint64    `json:"bytes"` // of the payloads of request and replies
	Ms     float64   `json:"ms"`
	Status uint16    `json:"status"`
	Values string    `json:"values,omitempty"` // of the first rows, escaped and cut
}

// TapFilter chooses requests. A field that is empty chooses all.
type TapFilter struct {
	Point, Table string
	Status       uint16
	Failed       bool // only those whose status is not 0
	Values       bool // with values of the first rows
}

func (f *TapFilter) matches(l *TapLine) bool {
	return (f.Point == "" || f.Point == l.Point) && (f.Table == "" || f.Table == l.Table) &&
		(f.Status == 0 || f.Status == l.Status) && (!f.Failed || l.Status != 0)
}

// Tap passes every request that is answered from now on to send, until ctx ends or send fails. missed is how many
// requests were answered that send was too slow for. The first call has no lines: from then on Tap watches.
func (g *Gateway) Tap(ctx context.Context, f TapFilter, send func(lines []TapLine, missed uint64) error) error {
	if f.Values {
		g.tap.values.Add(1)
		defer g.tap.values.Add(-1)
	}
	at, leave := g.tap.lines.join()
	defer leave()
	if err := send(nil, 0); err != nil {
		return err
	}
	for {
		all, next, missed, err := g.tap.lines.read(ctx, at)
		if err != nil {
			return err
		}
		at = next
		lines := slices.DeleteFunc(slices.Clone(all), func(l TapLine) bool { return !f.matches(&l) })
		for i := range lines {
			if !f.Values {
				lines[i].Values = ""
			}
		}
		if len(lines) > 0 || missed > 0 {
			if err := send(lines, missed); err != nil {
				return err
			}
		}
	}
}

// sample keeps the values of the first rows of a download's part, when somebody wants to see them.
func (t *tap) sample(r *business.Request, m *protocol.Message) {
	if t.values.Load() == 0 || r.Sample != "" || r.Message.Op != protocol.OpDownload {
		return
	}
	if part, err := m.DownloadReply(); err == nil {
		r.Sample = sampleOf(part.Columns, part.Values)
	}
}

func (t *tap) answered(r *business.Request, reply *protocol.Message, at time.Time) {
	if !t.lines.watched() {
		return
	}
	if t.values.Load() > 0 && r.Message.Op == protocol.OpUpload {
		if u, err := r.Message.UploadRequest(); err == nil {
			r.Sample = sampleOf(u.Rows.Columns, u.Rows.Values)
		}
	}
	t.lines.add(TapLine{At: at, Point: r.Point, Op: r.Message.Op.String(), Table: r.Message.Table(), Rows: r.Rows,
		Bytes: uint64(len(r.Message.Payload)) + r.Sent, Ms: float64(at.Sub(r.Arrived).Microseconds()) / 1000,
		Status: uint16(reply.Status), Values: r.Sample})
}

// sampleOf are the values of the first rows, for a terminal: nothing in them is a control character.
func sampleOf(columns []string, values []any) string {
	var b strings.Builder
	for i, v := range values[:min(len(values), tapRows*len(columns))] {
		if b.Len() > tapValues {
			return b.String() + " …"
		}
		b.WriteString(strconv.Quote(columns[i%len(columns)]) + ": " + shown(v) + "; ")
	}
	return strings.TrimSuffix(b.String(), "; ")
}

func shown(v any) string {
	switch v := v.(type) {
	case string:
		if len(v) > tapValue {
			return strconv.Quote(v[:tapValue]) + "…"
		}
		return strconv.Quote(v)
	case []byte:
		return fmt.Sprintf("0x%x (%d bytes)", v[:min(len(v), tapValue/2)], len(v))
	case nil:
		return "NULL"
	}
	return fmt.Sprint(v)
}
