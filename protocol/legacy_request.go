package protocol

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"syncgate/internal/pyliteral"
	"syncgate/internal/rowset"
)

// LegacyEpoch is the bit that marks the epoch of a request of the v1 wire, which has no request ids. The other bits of
// the epoch are the request's Time in Unix seconds. The sequence is the first half of the token. So a repeated request
// has the same id and gets the ledger's stored reply; a request with another Content or Time has another id. The server
// refuses the request once its Time has left the window, so its ledger row is of no use after twice the window.
const LegacyEpoch uint64 = 1 << 63

// legacyRequest is a request with a valid token, and the reply to it.
type legacyRequest struct {
	point, typ, table string
	content           pyliteral.Value
	token, digest     [16]byte // digest begins the SHA-256 of the whole text
	time              time.Time

	// Values that the reply repeats.
	userID, typed, named, tableField, isSyncdb pyliteral.Value

	legacyPrinter
	shown bool // the text itself shows its dialect

	// The reply under construction. Rows are printed when their part arrives, and are then kept as text only.
	id      RequestID
	op      Op
	reply   []byte // its text so far
	begun   int    // where its Content begins
	lists   int    // begun in it, one for each statement
	printed int    // rows in the last list
}

// legacyEcho is the longest value of a request that the reply repeats, in bytes of text.
const legacyEcho = 4096

// request parses a text and checks its token. A text that is not a request was probably encrypted under another key.
func (l *Legacy) request(text []byte) (*legacyRequest, error) {
	if len(text) == 0 || text[0] != '{' {
		return nil, errLegacyText // the cheap check: the text of another key
	}
	read, shown := pyliteral.Detect(text)
	if !shown {
		read = l.opts.Dialect
	}
	root, err := parseLegacy(text, read)
	if err != nil {
		return nil, err
	}
	r := &legacyRequest{shown: shown}
	if u := root.Get(l.names["userid"]); u != nil {
		r.point, _ = legacyName(u.Value)
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
	root, err := pyliteral.Parse(text, pyliteral.Limits{Dialect: d, DictSpans: true, Elements: maxValues})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errLegacyText, err)
	}
	return root, nil
}

// printer chooses the Python to print for: the configured one, the one that the request shows, or the one that an
// earlier request of the point showed.
func (l *Legacy) printer(point string, read pyliteral.Dialect, shown bool) legacyPrinter {
	if l.opts.FixedDialect {
		return legacyPrinter{dialect: l.opts.Dialect}
	}
	if !shown {
		before, ok := l.shown.Load(point)
		if !ok {
			return legacyPrinter{dialect: l.opts.Dialect, neutral: true}
		}
		read = before.(pyliteral.Dialect)
	}
	if read != pyliteral.Python2 && l.opts.Dialect != pyliteral.Python2 {
		read = l.opts.Dialect // a request shows Python 3, but not which version
	}
	return legacyPrinter{dialect: read}
}

// take fills r from the fields of a request and checks the token.
func (l *Legacy) take(r *legacyRequest, root *pyliteral.Node, text []byte) error {
	n := l.names
	business, info := root.Get(n["Business"]), root.Get(n["Info_Status"])
	if business == nil || info == nil {
		return fmt.Errorf("%w: no %s or no %s", errLegacyText, n["Business"], n["Info_Status"])
	}
	var token, at, infoType string
	for _, f := range []struct {
		in   *pyliteral.Node
		name string
		to   *string
	}{
		{root, "userid", &r.point}, {business, "Type", &r.typ}, {business, "Table_Name", &r.table},
		{info, "Info_Type", &infoType}, {info, "Security_Token", &token}, {info, "Time", &at},
	} {
		node, ok := f.in.Get(n[f.name]), false
		switch {
		case node == nil:
		case f.name == "userid":
			*f.to, ok = legacyName(node.Value)
		default:
			*f.to, ok = pyliteral.Text(node.Value)
		}
		if !ok {
			return fmt.Errorf("%w: %s is not a text", errLegacyText, n[f.name])
		}
	}
	if infoType != n["REQUEST"] {
		return fmt.Errorf("%w: %s is not %s", errLegacyText, n["Info_Type"], n["REQUEST"])
	}
	content := business.Get(n["Content"])
	want := legacyToken(legacyContent(text, content), at, l.opts.TokenKey)
	if subtle.ConstantTimeCompare([]byte(token), []byte(want)) != 1 {
		return errLegacyToken
	}
	_, _ = hex.Decode(r.token[:], []byte(token)) // equal to what legacyToken printed
	sum := sha256.Sum256(text)
	copy(r.digest[:], sum[:])
	var err error
	if r.time, err = parseLegacyTime(at, l.opts.Zone); err != nil {
		return err
	}
	if content != nil {
		r.content = content.Value
	}
	r.userID, r.typed = legacyEchoed(root, n["userid"]), legacyEchoed(business, n["Type"])
	r.named, r.tableField = legacyEchoed(business, n["Table_Name"]), legacyEchoed(business, n["Table_Field"])
	r.isSyncdb = legacyEchoed(business, n["Is_Syncdb"])
	return nil
}

// legacyName returns the name of a point, which may be a whole number.
func legacyName(v pyliteral.Value) (string, bool) {
	switch v := v.(type) {
	case int64:
		return strconv.FormatInt(v, 10), true
	case pyliteral.Long:
		return strconv.FormatInt(int64(v), 10), true
	}
	return pyliteral.Text(v)
}

// legacyContent returns the agent's str(Content), from which it made the token: the value of a text, or the packet's
// own bytes of anything else. A missing Content counts as empty.
func legacyContent(text []byte, n *pyliteral.Node) []byte {
	if n == nil {
		return nil
	}
	if s, ok := pyliteral.Text(n.Value); ok {
		return []byte(s)
	}
	return text[n.Start:n.End]
}

// legacyEchoed returns the value that a reply repeats, or nil when it is missing or too long.
func legacyEchoed(in *pyliteral.Node, name string) pyliteral.Value {
	if n := in.Get(name); n != nil && n.End-n.Start <= legacyEcho {
		return n.Value
	}
	return nil
}

// parseLegacyTime parses YYYY-MM-DD hh:mm:ss.ffffff. Python prints no fraction when it is 0.
func parseLegacyTime(s string, zone *time.Location) (time.Time, error) {
	const layout = "2006-01-02 15:04:05"
	t, err := time.ParseInLocation(layout, s, zone)
	if err != nil || len(s) != len(layout) && len(s) != len(layout)+len(".000000") {
		return time.Time{}, fmt.Errorf("%w: %.32q is not a time", errLegacyTime, s)
	}
	return t, nil
}

// message converts the request for package business. An error means an agent's request that is malformed.
func (r *legacyRequest) message(n legacyNames) (*Message, error) {
	if r.table == "" || !validText(r.table, maxName) {
		return nil, fmt.Errorf("%w: it has no table name", errLegacyFit)
	}
	m := &Message{RequestID: MakeRequestID(LegacyEpoch|uint64(r.time.Unix()), binary.BigEndian.Uint64(r.token[:]))}
	var err error
	switch r.typ {
	case n["UPLOAD_DB"]:
		u := &UploadRequest{Table: r.table}
		m.Op, m.Body = OpUpload, u
		u.Rows, err = r.rows()
	case n["DOLOAD_DB"]:
		d := &DownloadRequest{Table: r.table}
		m.Op, m.Body = OpDownload, d
		if d.State, err = legacyState(r.content); err != nil {
			d.State, d.Stateless, err = nil, err.Error(), nil
		}
	default:
		err = fmt.Errorf("%w: %s is neither %s nor %s", errLegacyFit, n["Type"], n["UPLOAD_DB"], n["DOLOAD_DB"])
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

// rows converts an upload's content: a list of tuples. It takes as many values of each as the shortest has, because the
// original did not look at values behind those of the rule's fields.
func (r *legacyRequest) rows() (rowset.Rows, error) {
	list, err := r.list()
	if err != nil || len(list) == 0 {
		return rowset.Rows{}, err
	}
	width := maxColumns
	for i, e := range list { // check all lengths before the allocation
		row, _ := legacyItems(e)
		if len(row) == 0 || len(row) > maxColumns {
			return rowset.Rows{}, fmt.Errorf("%w: row %d has %d values", errLegacyFit, i, len(row))
		}
		width = min(width, len(row))
	}
	rows := rowset.Rows{Columns: make([]string, width), Values: make([]any, 0, width*len(list))}
	for i, e := range list {
		row, _ := legacyItems(e)
		for _, v := range row[:width] {
			value, ok := pyliteral.SQL(v)
			if !ok {
				return rowset.Rows{}, fmt.Errorf("%w: row %d has a list, tuple or dict as a value", errLegacyFit, i)
			}
			rows.Values = append(rows.Values, value)
		}
	}
	return rows, nil
}

// legacyState converts a download's content: a list of tuples of pairs (name, value), or a dict. It keeps their order.
// A text may be one of them as str() prints it. An error says why the content is no state; the original looked at it
// only where the rule carries one.
func legacyState(content pyliteral.Value) (state []rowset.StateItem, err error) {
	if s, ok := pyliteral.Text(content); ok && s != "" {
		n, err := parseLegacy([]byte(s), pyliteral.Python3)
		if err != nil {
			return nil, errors.New("Content is a word and carries no state")
		}
		content = n.Value
	}
	var list []pyliteral.Value
	switch c := content.(type) {
	case pyliteral.List:
		list = c
	case pyliteral.Tuple:
		list = c
	case pyliteral.Dict:
		pairs := pyliteral.Tuple{}
		for i := 0; i+1 < len(c); i += 2 {
			pairs = append(pairs, pyliteral.Tuple{c[i], c[i+1]})
		}
		list = []pyliteral.Value{pairs}
	case nil, pyliteral.Str, pyliteral.Unicode:
	default:
		return nil, errors.New("Content is no list of pairs and carries no state")
	}
	for _, e := range list {
		pairs, ok := legacyItems(e)
		if !ok || len(state)+len(pairs) > maxState {
			return nil, fmt.Errorf("the state is not a list of tuples of up to %d pairs", maxState)
		}
		for _, p := range pairs {
			pair, _ := legacyItems(p)
			if len(pair) != 2 {
				return nil, errors.New("an item of the state is not a pair")
			}
			name, named := pyliteral.Text(pair[0])
			value, ok := pyliteral.SQL(pair[1])
			if !named || !ok || !validText(name, maxName) {
				return nil, errors.New("an item of the state is not a name and a value")
			}
			state = append(state, rowset.StateItem{Name: name, Value: value})
		}
	}
	return state, nil
}

// list returns the content as a list. None and an empty text are an empty list.
func (r *legacyRequest) list() ([]pyliteral.Value, error) {
	list, ok := legacyItems(r.content)
	if s, text := pyliteral.Text(r.content); !ok && r.content != nil && !(text && s == "") {
		return nil, fmt.Errorf("%w: it is not a list", errLegacyFit)
	}
	return list, nil
}

func legacyItems(v pyliteral.Value) ([]pyliteral.Value, bool) {
	switch s := v.(type) {
	case pyliteral.List:
		return s, true
	case pyliteral.Tuple:
		return s, true
	}
	return nil, false
}
