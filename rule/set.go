package rule

import "strings"

// CheckSet looks for mistakes that only several rows together show. It does not
// compile them: that is said by Compile, row by row. tables gives a table's facts,
// or nil when there is no such table; it may be nil. Disabled rows do not count.
func CheckSet(rows []Row, tables func(name string) *Table) []Diagnostic {
	s := &setCheck{byKey: map[string]*Row{}}
	for i := range rows {
		if rows[i].Enabled {
			s.rows = append(s.rows, &rows[i])
		}
	}
	for _, r := range s.rows {
		s.duplicate(r)
	}
	for _, r := range s.rows {
		if tables != nil && r.User == Server && tables(r.Table) == nil {
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

// fields compares the two sides' sync_field where both name them.
func (s *setCheck) fields(r, peer *Row) {
	if r.User != Client {
		return
	}
	mine, ok := (&compiler{row: *r, plan: &Plan{}}).fieldList()
	theirs, ok2 := (&compiler{row: *peer, plan: &Plan{}}).fieldList()
	if ok && ok2 && len(mine) > 0 && len(theirs) > 0 && !(allIn(mine, theirs) && allIn(theirs, mine)) {
		s.say(r, Warning, FieldMismatch, "sync_field", "the fields are not those of the server's row "+itoa(peer.ID), "name the same fields in both")
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
