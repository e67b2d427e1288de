package rule

import "strings"

// CheckSet looks for mistakes that only several rows together show; what is wrong
// with a row by itself is said by Compile. tables gives a table's facts,
// or nil when there is no such table; it may be nil. Disabled rows do not count.
func CheckSet(rows []Row, tables func(name string) *Table) []Diagnostic {
	s := &setCheck{byKey: map[string]*Row{}, facts: map[string]*Table{}}
	for i := range rows {
		if rows[i].Enabled {
			s.rows = append(s.rows, &rows[i])
		}
	}
	for _, r := range s.rows {
		s.duplicate(r)
	}
	for _, r := range s.rows {
		if _, asked := s.facts[r.Table]; tables != nil && !asked {
			s.facts[r.Table] = tables(r.Table)
		}
		if tables != nil && r.User == Server && s.facts[r.Table] == nil {
			s.say(r, Error, UnknownTable, "sync_table", "there is no table "+r.Table, "create it, or correct the name")
		}
		s.peer(r)
		s.echo(r)
	}
	return s.out
}

type setCheck struct {
	rows  []*Row
	byKey map[string]*Row
	facts map[string]*Table
	out   []Diagnostic
}

func (s *setCheck) say(r *Row, sev Severity, code Code, column, msg, fix string) {
	s.out = append(s.out, Diagnostic{Code: code, Severity: sev, RuleID: r.ID, Column: column, Message: msg, Fix: fix})
}

func setKey(table, typ, user, point string) string {
	return strings.Join([]string{strings.ToLower(table), typ, user, point}, "\x00")
}

func (s *setCheck) duplicate(r *Row) {
	key := setKey(r.Table, r.Type, r.User, r.PointNo)
	if first := s.byKey[key]; first != nil {
		s.say(r, Error, DuplicateRule, "sync_table", "row "+itoa(first.ID)+" is for the same table, direction, side and point", "remove or disable one")
		return
	}
	s.byKey[key] = r
}

// peer finds the other side's row. The point's rows may be kept at the point, so a
// server row alone is only worth a remark.
func (s *setCheck) peer(r *Row) {
	other := map[string]string{Server: Client, Client: Server}[r.User]
	peers := []*Row{s.byKey[setKey(r.Table, r.Type, other, r.PointNo)], s.byKey[setKey(r.Table, r.Type, other, AnyPoint)]}
	if r.PointNo == AnyPoint {
		for _, p := range s.rows {
			if sameName(p.Table, r.Table) && p.Type == r.Type && p.User == other {
				peers = append(peers, p)
			}
		}
	}
	for _, p := range peers {
		if p == nil {
			continue
		}
		s.fields(r, p)
		return
	}
	if r.User == Client {
		s.say(r, Warning, MissingPeer, "sync_user", "there is no server row for "+r.Type+" of "+r.Table+" at "+r.PointNo, "add one; with an empty sync_sql it is generated")
	} else {
		s.say(r, Info, MissingPeer, "sync_user", "there is no client row for "+r.Type+" of "+r.Table+" at "+r.PointNo, "fine when the point keeps its own; else add one")
	}
}

// fields compares the columns that one side sends with the fields that the other
// takes; they must be the same, in any order.
func (s *setCheck) fields(client, server *Row) {
	if client.User != Client {
		return
	}
	sender, taker := client, server
	if client.Type == Download {
		sender, taker = server, client
	}
	from, _ := Compile(*sender, s.facts[sender.Table])
	to, _ := Compile(*taker, s.facts[taker.Table])
	if from == nil || to == nil || len(from.Upside) == 0 || len(to.Fields) == 0 {
		return
	}
	toks, _ := lex(from.Upside[0].SQL)
	if sent, known := outputNames(toks); known && !(allIn(sent, to.Fields) && allIn(to.Fields, sent)) {
		s.say(client, Warning, FieldMismatch, "sync_field", "row "+itoa(sender.ID)+" sends "+strings.Join(sent, ", ")+"; row "+itoa(taker.ID)+" takes "+strings.Join(to.Fields, ", "),
			"name the same fields in both rows, and select them")
	}
}

// echo finds a table that goes both ways with a new update_time each time, so that
// each side takes the other's copy for a change.
func (s *setCheck) echo(r *Row) {
	if r.User != Server || r.Type != Upload || !r.UpdateTime {
		return
	}
	down := s.byKey[setKey(r.Table, Download, Server, r.PointNo)]
	if down == nil {
		down = s.byKey[setKey(r.Table, Download, Server, AnyPoint)]
	}
	if down != nil {
		s.say(r, Warning, Echo, "sync_is_update_time", "what is uploaded gets a new update_time, is downloaded again by row "+itoa(down.ID)+", and is uploaded again",
			"clear sync_is_update_time, or let upside leave out what came from the other side")
	}
}
