package protocol

import (
	"fmt"

	"syncgate/internal/pyliteral"
)

// legacyReply is the answer to one request while its parts come in. What is known is printed at once, so that a part's
// rows are held as text and no longer as values:
//
//	{'userid': …, 'Business': {'Type': …, 'Content': | [[(…), (…)], [… | … the rest, at the end
//	                                                 content           len(text)
type legacyReply struct {
	id       RequestID
	op       Op
	print    legacyPrinter
	table    pyliteral.Value
	field    pyliteral.Value
	isSyncdb pyliteral.Value

	text      []byte
	content   int // where Content begins in text
	statement int // of the list that is open in it, -1 before the first
	rows      int // in that list

	packet []byte // when the reply is whole
}

func (l *Legacy) newReply(r *legacyRequest, m *Message) *legacyReply {
	e := &legacyReply{id: m.RequestID, op: m.Op, print: r.legacyPrinter, table: r.named, field: r.tableField, isSyncdb: r.isSyncdb, statement: -1}
	e.open(&l.names, r.userID, r.typed)
	return e
}

// newRefusal is the reply to what is not known to be an agent's. It says nothing of what came.
func (l *Legacy) newRefusal() *legacyReply {
	e := &legacyReply{print: legacyPrinter{neutral: true}, statement: -1}
	e.open(&l.names, nil, nil)
	return e
}

// key appends a separator, a key and its colon.
func (e *legacyReply) key(before, name string) {
	e.text = append(e.text, before...)
	e.value(pyliteral.Str(name))
	e.text = append(e.text, ": "...)
}

// value appends a value, or None where the dialect has no literal for what the request held.
func (e *legacyReply) value(v pyliteral.Value) {
	text, err := pyliteral.Append(e.text, v, e.print.dialect)
	if err != nil {
		text = append(e.text, "None"...)
	}
	e.text = text
}

func (e *legacyReply) open(n *legacyNames, userID, typ pyliteral.Value) {
	e.key("{", n.userID)
	e.value(userID)
	e.key(", ", n.business)
	e.key("{", n.typ)
	e.value(typ)
	e.key(", ", n.content)
	e.content = len(e.text)
}

// add prints the rows of a part, of whose statement a list is open or is opened. Statements without a part have an
// empty list.
func (e *legacyReply) add(r *DownloadReply, max int) error {
	if len(r.Columns) == 0 {
		return nil
	}
	if e.statement < 0 {
		e.text = append(e.text, '[')
	}
	if int(r.Statement) < e.statement || int(r.Statement) > e.statement+MaxColumns {
		return fmt.Errorf("%w: statement %d after %d", ErrBody, r.Statement, e.statement)
	}
	for e.statement < int(r.Statement) {
		if e.statement >= 0 {
			e.text = append(e.text, "], "...)
		}
		e.text = append(e.text, '[')
		e.statement, e.rows = e.statement+1, 0
	}
	kinds := make([]legacyKind, len(r.Columns))
	for i := range kinds {
		if i < len(r.Types) {
			kinds[i] = legacyKindOf(r.Types[i])
		}
	}
	rows := r.Rows()
	row := make(pyliteral.Tuple, len(kinds))
	for i := range rows.Len() {
		for k, v := range rows.Row(i) {
			value, ok := e.print.value(v, kinds[k])
			if !ok {
				return fmt.Errorf("%w: %T", ErrValue, v)
			}
			row[k] = value
		}
		if e.rows > 0 {
			e.text = append(e.text, ", "...)
		}
		text, err := pyliteral.Append(e.text, row, e.print.dialect)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrValue, err)
		}
		e.text = text
		e.rows++
		if len(e.text)-e.content > max {
			return ErrLegacyReply
		}
	}
	return nil
}

// finish ends Content: for a download the lists that are open, else None.
func (e *legacyReply) finish(l *Legacy, note string) {
	switch {
	case e.op != OpDownload:
		e.text = append(e.text[:e.content], "None"...)
	case e.statement < 0:
		e.text = append(e.text, "[]"...)
	default:
		e.text = append(e.text, "]]"...)
	}
	e.close(l, false, nil, e.note(note))
}

// fail makes it the reply of a request that was not done, whatever was printed before.
func (e *legacyReply) fail(l *Legacy, word, info string) {
	e.text = append(e.text[:e.content], "None"...)
	e.close(l, true, pyliteral.Str(word), e.note(info))
}

func (e *legacyReply) note(s string) pyliteral.Value {
	if s == "" {
		return nil
	}
	return e.print.text(s)
}

// close prints what follows Content and makes the packet.
func (e *legacyReply) close(l *Legacy, failed bool, word, info pyliteral.Value) {
	n := &l.names
	now := l.opts.Clock().In(l.opts.Zone).Format("2006-01-02 15:04:05.000000")
	token := legacyToken(e.text[e.content:], now, l.opts.TokenKey)
	for _, f := range []struct {
		before, name string
		value        pyliteral.Value
	}{
		{", ", n.tableName, e.table}, {", ", n.tableField, e.field}, {", ", n.isSyncdb, e.isSyncdb},
		{"}, ", n.failure, nil}, {"{", n.errorFlag, failed}, {", ", n.errorType, word}, {", ", n.errorInfo, info},
		{"}, ", n.info, nil}, {"{", n.infoType, pyliteral.Str(n.response)}, {", ", n.token, pyliteral.Str(token)},
		{", ", n.time, pyliteral.Str(now)}, {", ", n.isEnd, true},
	} {
		e.key(f.before, f.name)
		if f.name != n.failure && f.name != n.info {
			e.value(f.value)
		}
	}
	e.packet = sealLegacy(append(e.text, "}}"...), l.cbc)
	e.text = nil
}
