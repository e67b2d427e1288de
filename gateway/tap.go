package gateway

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"syncgate/business"
	"syncgate/protocol"
	"syncgate/store"
)

// tap shows each request when it is answered to those who watch. Nobody waits for them.
type tap struct {
	lines  feed[store.LogLine]
	values atomic.Int32 // watchers who want values
}

const (
	tapLines  = 4096 // that a watcher may be behind
	tapRows   = 3    // of which values are shown
	tapValue  = 64   // bytes of a value
	tapValues = 1024 // bytes of all
)

// Tap passes every request that the filter chooses to send when it is answered, until ctx ends or send fails. missed is
// how many requests were answered that send was too slow for. The first call has no lines: from then on Tap watches.
func (g *Gateway) Tap(ctx context.Context, f store.LogFilter, values bool,
	send func(lines []store.LogLine, missed uint64) error) error {
	if values {
		g.tap.values.Add(1)
		defer g.tap.values.Add(-1)
	}
	at, leave := g.tap.lines.join()
	defer leave()
	for err := send(nil, 0); ; {
		var all, lines []store.LogLine
		var missed uint64
		if err == nil {
			all, at, missed, err = g.tap.lines.read(ctx, at)
		}
		if err != nil {
			return err
		}
		for _, l := range all {
			if !values {
				l.Values = ""
			}
			if f.Matches(&l) {
				lines = append(lines, l)
			}
		}
		if len(lines) > 0 || missed > 0 {
			err = send(lines, missed)
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
	if t.lines.watching() == 0 {
		return
	}
	if t.values.Load() > 0 && r.Message.Op == protocol.OpUpload {
		if u, err := r.Message.UploadRequest(); err == nil {
			r.Sample = sampleOf(u.Rows.Columns, u.Rows.Values)
		}
	}
	t.lines.add(store.LogLine{At: at, Point: r.Point, Table: r.Message.Table(), Type: r.Message.Op.String(),
		Rows: r.Rows, Batches: 1, Ms: uint64(max(0, at.Sub(r.Arrived).Milliseconds())), Status: uint16(reply.Status),
		Bytes: uint64(len(r.Message.Payload)) + r.Sent, Values: r.Sample})
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
