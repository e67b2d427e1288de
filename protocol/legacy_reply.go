package protocol

import (
	"errors"
	"fmt"
	"strings"

	"syncgate/internal/pyliteral"
)

// legacyReply is the answer to one request while its parts come in. A part's rows are printed at once, so that they are
// held as text and no longer as values.
type legacyReply struct {
	*legacyRequest
	id RequestID
	op Op

	content   []byte
	statement int // of the list that is open in content, -1 before the first
	rows      int // in that list
}

// legacyNone is a Content that holds nothing.
const legacyNone = "None"

// reply takes a message in and returns the packet once it is whole.
func (l *Legacy) reply(e *legacyReply, m *Message) ([]byte, error) {
	if m.Status != StatusOK {
		r, err := m.ErrorReply()
		if err != nil {
			return nil, err
		}
		return l.failure(e.legacyRequest, m.Status, r.Message), nil
	}
	if e.op == OpUpload {
		r, err := m.UploadReply()
		if err != nil {
			return nil, err
		}
		note := ""
		if n := len(r.Quarantined); n > 0 {
			note = fmt.Sprintf("%v: %d rows were put aside", StatusRowRefused, n)
		}
		return l.packet(e.legacyRequest, []byte(legacyNone), "", note), nil
	}
	r, err := m.DownloadReply()
	if err == nil {
		err = e.add(r)
	}
	switch {
	case err != nil || m.More():
		return nil, err
	case e.statement < 0:
		return l.packet(e.legacyRequest, []byte("[]"), "", ""), nil
	}
	return l.packet(e.legacyRequest, append(e.content, "]]"...), "", ""), nil
}

// add prints the rows of a part, of whose statement a list is open or is opened. Statements without a part have an
// empty list.
func (e *legacyReply) add(r *DownloadReply) error {
	if len(r.Columns) == 0 {
		return nil
	}
	if int(r.Statement) < e.statement || int(r.Statement) > e.statement+MaxColumns {
		return fmt.Errorf("%w: statement %d after %d", errBody, r.Statement, e.statement)
	}
	for ; e.statement < int(r.Statement); e.statement++ {
		open := "], ["
		if e.statement < 0 {
			open = "[["
		}
		e.content, e.rows = append(e.content, open...), 0
	}
	types := make([]string, len(r.Columns))
	for i := range min(len(types), len(r.Types)) {
		types[i] = legacyType(r.Types[i])
	}
	rows, row := r.Rows(), make(pyliteral.Tuple, len(types))
	for i := range rows.Len() {
		for k, v := range rows.Row(i) {
			var ok bool
			if row[k], ok = e.value(v, types[k]); !ok {
				return fmt.Errorf("%w: %T", ErrValue, v)
			}
		}
		if e.rows > 0 {
			e.content = append(e.content, ", "...)
		}
		text, err := pyliteral.Append(e.content, row, e.dialect)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrValue, err)
		}
		e.content = text
		e.rows++
		if len(e.content) > legacyMaxReply {
			return errLegacyReply
		}
	}
	return nil
}

// failure is the packet that answers a request which was not done.
func (l *Legacy) failure(r *legacyRequest, s Status, text string) []byte {
	return l.packet(r, []byte(legacyNone), l.names.word(s), fmt.Sprintf("%v: %s", s, text))
}

// failed is failure for an error, whose text the agent is told when it is of this package: those hold no values.
func (l *Legacy) failed(r *legacyRequest, err error) []byte {
	text := "the server failed"
	var w *wireError
	if errors.As(err, &w) {
		text = strings.TrimPrefix(err.Error(), "protocol: ")
	}
	return l.failure(r, StatusOf(err), text)
}

// legacyRaw is printed as it stands.
type legacyRaw []byte

// packet prints a reply: an error word makes it one of a request that was not done.
func (l *Legacy) packet(r *legacyRequest, content []byte, word, info string) []byte {
	now := l.opts.Clock().In(l.opts.Zone).Format("2006-01-02 15:04:05.000000")
	var failure, note pyliteral.Value
	if word != "" {
		failure = pyliteral.Str(word)
	}
	if info != "" {
		note = r.text(info)
	}
	text := make([]byte, 0, len(content)+1024)
	for _, f := range []struct {
		before, key string
		value       pyliteral.Value
	}{
		{"{", "userid", r.userID},
		{", ", "Business", legacyRaw("{")}, {"", "Type", r.typed}, {", ", "Content", legacyRaw(content)},
		{", ", "Table_Name", r.named}, {", ", "Table_Field", r.tableField}, {", ", "Is_Syncdb", r.isSyncdb},
		{"}, ", "Error", legacyRaw("{")}, {"", "Error_Flag", word != ""}, {", ", "Error_Type", failure}, {", ", "Error_Info", note},
		{"}, ", "Info_Status", legacyRaw("{")}, {"", "Info_Type", pyliteral.Str(l.names["RESPONSE"])},
		{", ", "Security_Token", pyliteral.Str(legacyToken(content, now, l.opts.TokenKey))},
		{", ", "Time", pyliteral.Str(now)}, {", ", "Is_End", true},
	} {
		text = append(text, f.before...)
		text = append(r.print(text, pyliteral.Str(l.names[f.key])), ": "...)
		if raw, ok := f.value.(legacyRaw); ok {
			text = append(text, raw...)
		} else {
			text = r.print(text, f.value)
		}
	}
	return sealLegacy(append(text, "}}"...), l.cbc)
}
