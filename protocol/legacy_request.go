package protocol

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"
	"unicode/utf8"

	"syncgate/internal/pyliteral"
)

// LegacyEpoch is the bit that marks the epoch of a request of the seed-era wire, which has no request ids. The epoch's
// other bits are the request's Time in Unix seconds, the sequence is the first half of its token. So the same bytes
// have the same id, and one whose rows were applied before gets the ledger's stored reply; what differs in Content or
// Time has another. Such a row is of no more use in the ledger twice the window after that time, since its request is
// refused then.
const LegacyEpoch uint64 = 1 << 63

// legacyRequest is a request whose token fits.
type legacyRequest struct {
	point      string
	typ, table string
	content    pyliteral.Value
	token      [16]byte
	text       [16]byte // of the SHA-256 of the whole text
	time       time.Time

	// As they came, for the reply.
	userID, typed, named, tableField, isSyncdb pyliteral.Value

	legacyPrinter
	shown bool // the text itself shows its dialect
}

// legacyEcho bounds what a reply repeats of a request's Table_Field and Is_Syncdb, in bytes of text.
const legacyEcho = 4096

// request reads a text and checks the token over it. A text that is not a request is most likely one opened with
// another key.
func (l *Legacy) request(text []byte) (*legacyRequest, error) {
	if len(text) == 0 || text[0] != '{' {
		return nil, ErrLegacyText // another key's, at no more cost
	}
	read, shown := pyliteral.Detect(text)
	if !shown {
		read = l.opts.Fallback
	}
	root, err := parseLegacy(text, read)
	if err != nil {
		return nil, err
	}
	r := &legacyRequest{shown: shown}
	if u := root.Get(l.names.userID); u != nil {
		r.point, _ = pyliteral.Text(u.Value)
	}
	r.legacyPrinter = l.printer(r.point, read, shown)
	if !shown && (r.dialect == pyliteral.Python2) != (read == pyliteral.Python2) && bytes.IndexByte(text, '\\') >= 0 {
		if root, err = parseLegacy(text, r.dialect); err != nil {
			return nil, err
		}
	}
	if err := l.take(r, root, text); err != nil {
		return nil, err
	}
	return r, nil
}

func parseLegacy(text []byte, d pyliteral.Dialect) (*pyliteral.Node, error) {
	root, err := pyliteral.Parse(text, pyliteral.Limits{Dialect: d, Spans: pyliteral.DictSpans, Elements: MaxValues})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLegacyText, err)
	}
	return root, nil
}

// printer says how to print for a point: as configured, as its request shows, or as one before it did.
func (l *Legacy) printer(point string, read pyliteral.Dialect, shown bool) legacyPrinter {
	if d, ok := l.opts.Dialect(point); ok {
		return legacyPrinter{dialect: d}
	}
	if !shown {
		if read, shown = l.memory.dialect(point); !shown {
			return legacyPrinter{dialect: l.opts.Fallback, neutral: true}
		}
	}
	if read != pyliteral.Python2 && l.opts.Fallback != pyliteral.Python2 {
		read = l.opts.Fallback // it shows that it is a Python 3, not which
	}
	return legacyPrinter{dialect: read}
}

// take reads the fields of a request and checks its token.
func (l *Legacy) take(r *legacyRequest, root *pyliteral.Node, text []byte) error {
	n := &l.names
	business, info := root.Get(n.business), root.Get(n.info)
	if business == nil || info == nil {
		return fmt.Errorf("%w: no %s or no %s", ErrLegacyText, n.business, n.info)
	}
	var token, at string
	var infoType string
	for _, f := range []struct {
		in   *pyliteral.Node
		name string
		to   *string
	}{
		{root, n.userID, &r.point}, {business, n.typ, &r.typ}, {business, n.tableName, &r.table},
		{info, n.infoType, &infoType}, {info, n.token, &token}, {info, n.time, &at},
	} {
		node := f.in.Get(f.name)
		if node == nil {
			return fmt.Errorf("%w: no %s", ErrLegacyText, f.name)
		}
		var ok bool
		if *f.to, ok = pyliteral.Text(node.Value); !ok {
			return fmt.Errorf("%w: %s is no text", ErrLegacyText, f.name)
		}
	}
	if infoType != n.request {
		return fmt.Errorf("%w: %s is not %s", ErrLegacyText, n.infoType, n.request)
	}
	content := business.Get(n.content)
	if !sameToken(token, legacyToken(legacyContent(text, content), at, l.opts.TokenKey)) {
		return ErrLegacyToken
	}
	if content != nil {
		r.content = content.Value
	}
	if _, err := hex.Decode(r.token[:], []byte(token)); err != nil {
		return ErrLegacyToken
	}
	sum := sha256.Sum256(text)
	copy(r.text[:], sum[:])
	var err error
	if r.time, err = l.time(at); err != nil {
		return err
	}
	r.userID, r.typed, r.named = root.Get(n.userID).Value, business.Get(n.typ).Value, business.Get(n.tableName).Value
	r.tableField, r.isSyncdb = legacyEchoed(business.Get(n.tableField)), legacyEchoed(business.Get(n.isSyncdb))
	return nil
}

// legacyContent is what str(Content) was where the token was made: the value of a text, the bytes of anything else as
// they stand in the packet. A Content that is missing counts as empty.
func legacyContent(text []byte, n *pyliteral.Node) []byte {
	if n == nil {
		return nil
	}
	if s, ok := pyliteral.Text(n.Value); ok {
		return []byte(s)
	}
	return text[n.Start:n.End]
}

func legacyEchoed(n *pyliteral.Node) pyliteral.Value {
	if n == nil || n.End-n.Start > legacyEcho {
		return nil
	}
	return n.Value
}

// time reads YYYY-MM-DD hh:mm:ss.ffffff, which Python prints without the fraction when it is 0.
func (l *Legacy) time(s string) (time.Time, error) {
	const layout = "2006-01-02 15:04:05"
	if len(s) != len(layout) && len(s) != len(layout)+len(".000000") {
		return time.Time{}, fmt.Errorf("%w: %q is no time", ErrLegacyTime, s[:min(len(s), 32)])
	}
	t, err := time.ParseInLocation(layout, s, l.opts.Zone)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: %w", ErrLegacyTime, err)
	}
	return t, nil
}

// id is the request's id, the same for the same bytes.
func (r *legacyRequest) id() RequestID {
	return MakeRequestID(LegacyEpoch|uint64(r.time.Unix()), binary.BigEndian.Uint64(r.token[:]))
}

// message is the request as business knows it. An error is of a request that is an agent's and does not fit.
func (r *legacyRequest) message(n *legacyNames, maxRows uint32) (*Message, error) {
	m := &Message{RequestID: r.id()}
	if r.table == "" || len(r.table) > MaxName || !utf8.ValidString(r.table) {
		return m, fmt.Errorf("%w: no name of a table", errLegacyFit)
	}
	switch r.typ {
	case n.upload:
		rows, err := r.rows()
		if err != nil {
			return m, err
		}
		m.Op, m.Body = OpUpload, &UploadRequest{Table: r.table, Rows: rows}
	case n.download:
		state, err := r.state()
		if err != nil {
			return m, err
		}
		m.Op, m.Body = OpDownload, &DownloadRequest{Table: r.table, State: state, MaxRows: maxRows}
	default:
		return m, fmt.Errorf("%w: %s is neither %s nor %s", errLegacyFit, n.typ, n.upload, n.download)
	}
	return m, nil
}

var errLegacyFit = newError(StatusRequestMismatch, "the request's content is not as documented")

// rows are the rows of an upload's content: a list of tuples of one length. None, an empty list and an empty text hold
// no row.
func (r *legacyRequest) rows() (Rows, error) {
	list, err := legacyList(r.content)
	if err != nil || len(list) == 0 {
		return Rows{}, err
	}
	var rows Rows
	for i, e := range list {
		row, ok := legacySequence(e)
		if !ok || len(row) == 0 || len(row) > MaxColumns {
			return Rows{}, fmt.Errorf("%w: row %d is no tuple of values", errLegacyFit, i)
		}
		if rows.Columns == nil {
			rows.Columns = make([]string, len(row))
			rows.Values = make([]any, 0, len(row)*len(list))
		}
		if len(row) != len(rows.Columns) {
			return Rows{}, fmt.Errorf("%w: row %d has %d values, row 0 has %d", errLegacyFit, i, len(row), len(rows.Columns))
		}
		for _, v := range row {
			value, ok := fromLegacy(v)
			if !ok {
				return Rows{}, fmt.Errorf("%w: row %d holds what no column can", errLegacyFit, i)
			}
			rows.Values = append(rows.Values, value)
		}
	}
	return rows, nil
}

// state is the state that a download's content carries: a list of tuples of pairs of a name and a value, which are taken
// in the order in which they stand.
func (r *legacyRequest) state() ([]StateItem, error) {
	list, err := legacyList(r.content)
	if err != nil {
		return nil, err
	}
	var state []StateItem
	for _, e := range list {
		pairs, ok := legacySequence(e)
		if !ok {
			return nil, fmt.Errorf("%w: the state is no list of tuples of pairs", errLegacyFit)
		}
		for _, p := range pairs {
			pair, ok := legacySequence(p)
			if !ok || len(pair) != 2 || len(state) == MaxState {
				return nil, fmt.Errorf("%w: the state is no list of tuples of pairs, or has more than %d", errLegacyFit, MaxState)
			}
			name, named := pyliteral.Text(pair[0])
			value, ok := fromLegacy(pair[1])
			if !named || !ok || len(name) > MaxName || !utf8.ValidString(name) {
				return nil, fmt.Errorf("%w: an item of the state is no name and value", errLegacyFit)
			}
			state = append(state, StateItem{name, value})
		}
	}
	return state, nil
}

func legacyList(v pyliteral.Value) ([]pyliteral.Value, error) {
	if s, ok := pyliteral.Text(v); v == nil || ok && s == "" {
		return nil, nil
	}
	list, ok := legacySequence(v)
	if !ok {
		return nil, fmt.Errorf("%w: it is no list", errLegacyFit)
	}
	return list, nil
}

func legacySequence(v pyliteral.Value) ([]pyliteral.Value, bool) {
	switch s := v.(type) {
	case pyliteral.List:
		return s, true
	case pyliteral.Tuple:
		return s, true
	}
	return nil, false
}
