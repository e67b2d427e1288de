package rule

import "strings"

// guardState makes an update_state that marks a row as sent pass over a row that has changed since it was read: the
// version that the centre has is not the one that would be marked, and the newer one would never leave. It adds the
// values that were read to the where, unless the statement compares any itself.
func (c *compiler) guardState(s *script) {
	where := find(s.toks, 0, "where")
	runs := s.phase == updateState && c.row.UpdateState && c.row.Type == Upload
	if !runs || s.verb != Update || where < 0 || !c.onlyRuleTable(s) {
		return
	}
	key, perRow := c.table.primaryKey(), false
	for i, at := range s.argAt {
		if s.args[i].Source != Field {
			continue
		}
		if perRow = true; at > where && !contains(key, s.args[i].Name) {
			return
		}
	}
	if !perRow {
		return
	}
	var marks, names []string
	loose := find(s.toks, where, "order") >= 0 || find(s.toks, where, "limit") >= 0
	for i, name := range c.plan.Fields {
		col := c.table.Column(name)
		if col == nil || contains(key, name) {
			continue
		}
		if loose = loose || !col.comparable(); !loose {
			arg := Arg{Source: Field, Name: name, Field: i}
			marks, names = append(marks, col.same("?")), append(names, col.same(arg.named()))
			s.out.Args = append(s.out.Args, arg)
		}
	}
	switch {
	case loose:
		s.out.Args = s.args
		c.warn(s, s.toks[where].from, UnguardedState, "a row that has changed since it was read is marked as well",
			"compare a column that changes with the row, such as and update_time = :update_time")
	case len(names) > 0:
		s.out.SQL = andWhere(s.out.SQL, strings.Join(marks, " and "))
		s.out.named = andWhere(s.out.named, strings.Join(names, " and "))
		c.at(s, s.toks[where].from, Info, UnguardedState, "a row that has changed since it was read must not be marked",
			"syncgate adds "+strings.Join(names, " and "))
	}
}

// andWhere adds a factor to the where with which a statement ends.
func andWhere(sql, factor string) string {
	toks, _ := lex(sql)
	at := toks[find(toks, 0, "where")].to
	return sql[:at] + " (" + strings.TrimLeft(sql[at:], " \n") + ") and " + factor
}

// comparable reports whether a value that was read can be found again. A float has other digits as text.
func (c *Column) comparable() bool { return c.Type != "float" && c.Type != "double" && c.Type != "bit" }

// same compares a column with a value to the letter, whatever its collation takes for equal.
func (c *Column) same(mark string) string {
	switch c.Type {
	case "char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set":
		return "convert(" + Quote(c.Name) + " using utf8mb4) collate utf8mb4_bin <=> " + mark
	}
	return Quote(c.Name) + " <=> " + exact(c, mark)
}
