package protocol

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// payload is what every typed payload can do.
type payload interface {
	appendCBOR(dst []byte) ([]byte, error)
}

// AppendPayload appends the CBOR of a typed payload (a value or a pointer) to dst.
func AppendPayload(dst []byte, body any) ([]byte, error) {
	p, ok := body.(payload)
	if !ok {
		return dst, fmt.Errorf("%w: %T", ErrBody, body)
	}
	return p.appendCBOR(dst)
}

// bodyOf is the message's body if it has one, else its payload decoded; no payload at all is an empty map.
func bodyOf[T any](m *Message, read func(*decoder, *T)) (*T, error) {
	switch b := m.Body.(type) {
	case *T:
		return b, nil
	case T:
		return &b, nil
	case nil:
	default:
		return nil, fmt.Errorf("%w: %T", ErrBody, m.Body)
	}
	d := decoder{buf: m.Payload}
	if len(d.buf) == 0 {
		d.buf = []byte{majorMap << 5}
	}
	body := new(T)
	read(&d, body)
	if d.err != nil {
		return nil, d.err
	}
	return body, nil
}

// Table is the table that an UPLOAD or DOWNLOAD asks about, found without reading its rows; "" where there is none, in
// which case decoding the request will say why.
func (m *Message) Table() string {
	switch b := m.Body.(type) {
	case *UploadRequest:
		return b.Table
	case UploadRequest:
		return b.Table
	case *DownloadRequest:
		return b.Table
	case DownloadRequest:
		return b.Table
	}
	// All that may stand before a table's end; no more is looked at.
	d := decoder{buf: m.Payload[:min(len(m.Payload), 32+MaxName)]}
	if d.expect(majorMap, "a map") == 0 {
		return ""
	}
	key := d.uint()
	if m.Op == OpUpload && key == 1 {
		d.uint()
		key = d.uint()
	}
	if m.Op == OpUpload && key == 2 || m.Op == OpDownload && key == 1 {
		return d.textMax(MaxName)
	}
	return ""
}

func appendKey(dst []byte, key byte) []byte { return append(dst, key) }

// clip makes a text for a person UTF-8 and cuts it at MaxText bytes, between characters.
func clip(s string) string {
	s = strings.ToValidUTF8(s, "?")
	if len(s) <= MaxText {
		return s
	}
	end := MaxText
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

func appendName(dst []byte, name string) ([]byte, error) {
	if len(name) > MaxName || !utf8.ValidString(name) {
		return dst, fmt.Errorf("%w: name of %d bytes", ErrValue, len(name))
	}
	return appendText(dst, name), nil
}

func appendNames(dst []byte, names []string) ([]byte, error) {
	dst = appendHead(dst, majorArray, uint64(len(names)))
	var err error
	for _, name := range names {
		if dst, err = appendName(dst, name); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func (d *decoder) names(max int) []string {
	n := d.array(max)
	if n == 0 {
		return nil
	}
	names := make([]string, 0, n)
	for range n {
		names = append(names, d.textMax(MaxName))
		if d.err != nil {
			return nil
		}
	}
	return names
}

func appendValues(dst []byte, values []any) ([]byte, error) {
	if len(values) > MaxValues {
		return dst, ErrLimit
	}
	dst = appendHead(dst, majorArray, uint64(len(values)))
	var err error
	for _, v := range values {
		if dst, err = appendValue(dst, v, false); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func (d *decoder) values() []any {
	n := d.array(MaxValues)
	if n == 0 {
		return nil
	}
	values := make([]any, n)
	for i := range values {
		values[i] = d.value()
		if d.err != nil {
			return nil
		}
	}
	return values
}

// items are written flat: name, value, name, value, …
func appendItems(dst []byte, items []StateItem) ([]byte, error) {
	dst = appendHead(dst, majorArray, 2*uint64(len(items)))
	var err error
	for _, it := range items {
		if dst, err = appendName(dst, it.Name); err != nil {
			return dst, err
		}
		if dst, err = appendValue(dst, it.Value, false); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func (d *decoder) items(max int) []StateItem {
	n := d.array(2 * max)
	if n%2 != 0 {
		d.fail(ErrPayload, "name without a value")
	}
	if n == 0 || d.err != nil {
		return nil
	}
	items := make([]StateItem, 0, n/2)
	for range n / 2 {
		items = append(items, StateItem{d.textMax(MaxName), d.value()})
		if d.err != nil {
			return nil
		}
	}
	return items
}

// checkRows holds rows to whole rows of named columns.
func (d *decoder) checkRows(columns []string, values []any) {
	if d.err == nil && len(values) > 0 && (len(columns) == 0 || len(values)%len(columns) != 0) {
		d.fail(ErrPayload, "values are no whole rows")
	}
}

func (u UploadRequest) appendCBOR(dst []byte) ([]byte, error) {
	n := 3
	if u.Confirmed != 0 {
		n = 4
	}
	dst = appendHead(dst, majorMap, uint64(n))
	if u.Confirmed != 0 {
		dst = appendUint(appendKey(dst, 1), u.Confirmed)
	}
	return u.appendContent(dst)
}

// appendContent writes what Digest is over: all but the map's head and Confirmed.
func (u *UploadRequest) appendContent(dst []byte) ([]byte, error) {
	dst, err := appendName(appendKey(dst, 2), u.Table)
	if err != nil {
		return dst, err
	}
	if dst, err = appendNames(appendKey(dst, 3), u.Rows.Columns); err != nil {
		return dst, err
	}
	return appendValues(appendKey(dst, 4), u.Rows.Values)
}

func (d *decoder) uploadRequest(u *UploadRequest) {
	from := 0
	d.fields(func(key uint64) {
		if from == 0 && key > 1 {
			from = d.keyAt
		}
		switch key {
		case 1:
			u.Confirmed = d.uint()
		case 2:
			u.Table = d.textMax(MaxName)
		case 3:
			u.Rows.Columns = d.names(MaxColumns)
		case 4:
			u.Rows.Values = d.values()
		default:
			d.skip(0)
		}
	})
	d.requireTable(u.Table)
	d.checkRows(u.Rows.Columns, u.Rows.Values)
	u.encoded = d.buf[from:]
}

func (d *decoder) requireTable(table string) {
	if table == "" {
		d.fail(ErrPayload, "no table")
	}
}

// Digest is SHA-256 over the request's encoding without Confirmed: equal for two tries of one request, different when
// anything else differs. It is what the ledger compares.
func (u *UploadRequest) Digest() ([32]byte, error) {
	content := u.encoded
	if content == nil {
		var err error
		if content, err = u.appendContent(nil); err != nil {
			return [32]byte{}, err
		}
	}
	return sha256.Sum256(content), nil
}

// WithConfirmed returns payload, the CBOR of an UploadRequest made without Confirmed, with that value put in. An outbox
// keeps requests so and fills in the newest value at each try; the digest does not change. 0 returns payload itself.
func WithConfirmed(payload []byte, confirmed uint64) ([]byte, error) {
	if confirmed == 0 {
		return payload, nil
	}
	if len(payload) < 2 || payload[0]>>5 != majorMap || payload[0]&31 >= 23 || payload[1] <= 1 {
		return nil, fmt.Errorf("%w: not an upload without confirmed", ErrPayload)
	}
	out := make([]byte, 0, len(payload)+10)
	out = appendUint(appendKey(append(out, payload[0]+1), 1), confirmed)
	return append(out, payload[1:]...), nil
}

func (u UploadReply) appendCBOR(dst []byte) ([]byte, error) {
	dst = appendUint(appendKey(appendHead(dst, majorMap, 4), 1), u.Applied)
	dst = appendHead(appendKey(dst, 2), majorArray, 2*uint64(len(u.ByOp)))
	for _, op := range slices.Sorted(maps.Keys(u.ByOp)) {
		dst = appendUint(appendText(dst, op), u.ByOp[op])
	}
	dst = appendHead(appendKey(dst, 3), majorArray, uint64(len(u.Quarantined)))
	for _, q := range u.Quarantined {
		dst = appendUint(appendUint(appendHead(dst, majorArray, 3), uint64(q.Row)), uint64(q.Status))
		dst = appendText(dst, clip(q.Reason))
	}
	return appendBool(appendKey(dst, 4), u.Duplicate), nil
}

func (d *decoder) uploadReply(u *UploadReply) {
	d.fields(func(key uint64) {
		switch key {
		case 1:
			u.Applied = d.uint()
		case 2:
			u.ByOp = d.counts()
		case 3:
			u.Quarantined = d.quarantined()
		case 4:
			u.Duplicate = d.bool()
		default:
			d.skip(0)
		}
	})
}

func (d *decoder) counts() map[string]uint64 {
	n := d.array(2 * maxOps)
	if n%2 != 0 {
		d.fail(ErrPayload, "name without a value")
	}
	if n == 0 || d.err != nil {
		return nil
	}
	counts, last := make(map[string]uint64, n/2), ""
	for range n / 2 {
		op := d.textMax(MaxName)
		if op <= last {
			d.fail(ErrPayload, "names not ascending")
		}
		if d.err != nil {
			return nil
		}
		counts[op], last = d.uint(), op
	}
	return counts
}

func (d *decoder) quarantined() []QuarantinedRow {
	n := d.array(MaxValues)
	if n == 0 {
		return nil
	}
	// An element has at least four bytes; trusting the count alone would allocate 32 for each byte.
	rows := make([]QuarantinedRow, 0, min(n, (len(d.buf)-d.pos)/4))
	for range n {
		if d.array(3) != 3 {
			d.fail(ErrPayload, "is not row, status, reason")
		}
		rows = append(rows, QuarantinedRow{
			Row:    uint32(d.uintMax(math.MaxUint32)),
			Status: Status(d.uintMax(math.MaxUint16)),
			Reason: d.textMax(MaxText),
		})
		if d.err != nil {
			return nil
		}
	}
	return rows
}

func (r DownloadRequest) appendCBOR(dst []byte) ([]byte, error) {
	dst, err := appendName(appendKey(appendHead(dst, majorMap, 3), 1), r.Table)
	if err != nil {
		return dst, err
	}
	if dst, err = appendItems(appendKey(dst, 2), r.State); err != nil {
		return dst, err
	}
	return appendUint(appendKey(dst, 3), uint64(r.MaxRows)), nil
}

func (d *decoder) downloadRequest(r *DownloadRequest) {
	d.fields(func(key uint64) {
		switch key {
		case 1:
			r.Table = d.textMax(MaxName)
		case 2:
			r.State = d.items(MaxState)
		case 3:
			r.MaxRows = uint32(d.uintMax(math.MaxUint32))
		default:
			d.skip(0)
		}
	})
	d.requireTable(r.Table)
}
