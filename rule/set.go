package rule

import (
	"fmt"
	"slices"
	"strings"
)

// CheckSet looks for mistakes that only several rows together show. Compile says what is wrong with a row by itself.
// tables gives a table's facts, or nil when there is no such table; it may be nil. Disabled rows do not count.
func CheckSet(rows []Row, tables func(name string) *Table) []Diagnostic {
	s := &setCheck{byKey: map[Row]*Row{}, anyPoint: map[Row]*Row{}, facts: map[string]*Table{}}
	for i := range rows {
		r := &rows[i]
		if !r.Enabled {
			continue
		}
		s.rows = append(s.rows, r)
		if _, asked := s.facts[r.Table]; tables != nil && !asked {
			s.facts[r.Table] = tables(r.Table)
		}
		if first := s.find(r, r.Type, r.User, r.PointNo); first != nil {
			same := fmt.Sprintf("row %d has the same table, direction, side and point", first.ID)
			s.say(r, Error, DuplicateRule, "sync_table", same, "remove or disable one")
		} else {
			s.byKey[s.key(r, r.Type, r.User, r.PointNo)] = r
		}
		if k := s.key(r, r.Type, r.User, ""); s.anyPoint[k] == nil {
			s.anyPoint[k] = r
		}
	}
	for _, r := range s.rows {
		s.checkPeer(r)
		s.checkLoop(r)
		s.checkParents(r)
	}
	return s.out
}

type setCheck struct {
	rows  []*Row
	byKey map[Row]*Row // by key
	// anyPoint has the first row of each table, direction and side, whatever its point.
	anyPoint map[Row]*Row
	facts    map[string]*Table
	out      []Diagnostic
}

func (s *setCheck) say(r *Row, sev Severity, code Code, column, msg, fix string) {
	s.out = append(s.out, Diagnostic{Code: code, Severity: sev, RuleID: r.ID, Column: column, Message: msg, Fix: fix})
}

// key identifies a rule for the table of r. The database knows which names mean one table: some tell Log from log.
func (s *setCheck) key(r *Row, typ, user, point string) Row {
	name := r.Table
	if t := s.facts[name]; t != nil {
		name = t.Quoted()
	}
	return Row{Table: name, Type: typ, User: user, PointNo: point}
}

// find is the row for the table of r that is in force at the first of the points that has one.
func (s *setCheck) find(r *Row, typ, user string, points ...string) *Row {
	for _, point := range points {
		if found := s.byKey[s.key(r, typ, user, point)]; found != nil {
			return found
		}
	}
	return nil
}

// checkPeer finds the other side's row. A point may keep its own rows, so a server row alone is worth a remark only.
func (s *setCheck) checkPeer(r *Row) {
	peer := func(user string) *Row {
		if found := s.find(r, r.Type, user, r.PointNo, AnyPoint); found != nil || r.PointNo != AnyPoint {
			return found
		}
		return s.anyPoint[s.key(r, r.Type, user, "")]
	}
	missing := fmt.Sprintf("row for %s of %s at %s", r.Type, r.Table, r.PointNo)
	if r.User == Server {
		if peer(Client) == nil {
			s.say(r, Info, MissingPeer, "sync_user", "no client "+missing, "add one, unless the point keeps its own")
		}
	} else if server := peer(Server); server != nil {
		s.checkFields(r, server)
	} else {
		s.say(r, Warning, MissingPeer, "sync_user", "no server "+missing, "add one, with an empty sync_sql")
	}
}

// checkFields compares the columns that one side sends with the fields that the other takes. They must be the same, in
// any order.
func (s *setCheck) checkFields(client, server *Row) {
	sender, taker := client, server
	if client.Type == Download {
		sender, taker = server, client
	}
	from, _ := Compile(*sender, s.facts[sender.Table])
	to, _ := Compile(*taker, s.facts[taker.Table])
	if from == nil || to == nil || len(from.Upside) == 0 || len(to.Fields) == 0 {
		return
	}
	sent := from.Fields
	if from.Form != Generated { // a generated one sends marks as well
		toks, _ := lex(from.Upside[0].SQL)
		sent = outputNames(toks)
	}
	if sent != nil && !(allIn(sent, to.Fields) && allIn(to.Fields, sent)) {
		s.say(client, Warning, FieldMismatch, "sync_field", fmt.Sprintf("row %d sends %s; row %d takes %s",
			sender.ID, strings.Join(sent, ", "), taker.ID, strings.Join(to.Fields, ", ")),
			"name the same fields in both rows, and select them")
	}
}

// checkLoop finds a table that goes both ways with a new update_time each time, so that each side takes the other's
// copy for a change.
func (s *setCheck) checkLoop(r *Row) {
	down := s.find(r, Download, Server, r.PointNo, AnyPoint)
	if r.User == Server && r.Type == Upload && r.UpdateTime && down != nil && !strings.Contains(down.SQL, "changes") {
		s.say(r, Warning, Loop, "sync_is_update_time",
			fmt.Sprintf("row %d sends uploaded rows back with a new update_time, and they are uploaded again", down.ID),
			"clear sync_is_update_time, or let upside leave out rows of the other side")
	}
}

// checkParents finds tables that belong together: rows that refer to rows which never come are refused.
func (s *setCheck) checkParents(r *Row) {
	t := s.facts[r.Table]
	if r.User != Server || t == nil {
		return
	}
	for _, parent := range t.Parents {
		covered := func(other *Row) bool {
			return other.User == Server && other.Type == r.Type && sameName(other.Table, parent) &&
				(other.PointNo == r.PointNo || other.PointNo == AnyPoint)
		}
		if !sameName(parent, r.Table) && !slices.ContainsFunc(s.rows, covered) {
			s.say(r, Info, MissingParent, "sync_table",
				fmt.Sprintf("%s has a foreign key to %s, of which there is no %s here", r.Table, parent, r.Type),
				"add rules for "+parent+", unless it has all its rows at both ends")
		}
	}
}
