package rule

import (
	"fmt"
	"slices"
	"strings"

	"syncgate/internal/rowset"
)

// generate writes the statements of an empty sync_sql from the table's facts.
func (c *compiler) generate() {
	if c.table == nil {
		c.refuseIn(NoTableFacts, "sync_table", "there is no table "+c.row.Table, "create it, or write sync_sql")
		return
	}
	key := c.table.primaryKey()
	if len(key) == 0 {
		c.refuseIn(NoPrimaryKey, "sync_table", c.row.Table+" has no primary key", "give it one, or write sync_sql")
		return
	}
	for _, k := range key {
		if c.fieldIndex(k) < 0 {
			c.refuseIn(NoPrimaryKey, "sync_field", "the fields lack the key's "+k, "add it, or write sync_sql")
		}
	}
	for _, f := range c.plan.listed {
		if col := c.table.Column(f); col != nil && col.Generated && c.row.mainPhase() == downside {
			c.warnIn(UnknownField, "sync_field", "the database computes "+f+" itself; the field is left out",
				"remove it")
		}
	}
	if c.errors > 0 {
		return
	}
	switch {
	case c.row.mainPhase() == upside:
		c.generateUpside(key)
	case ownTable(c.table.Name):
		c.refuseIn(NotAllowed, "sync_table", c.table.Name+ownTableText, ownTableFix)
	default:
		c.generateDownside(key)
	}
}

// statementOf makes a statement of generated SQL, which needs no checks.
func (c *compiler) statementOf(verb Op, sql string) Statement {
	s := &script{phase: c.row.mainPhase(), verb: verb, src: &source{text: sql, column: sql}}
	s.read()
	c.placeholders(s)
	s.render()
	s.readScope()
	c.readInsert(s)
	s.out.text, s.out.start = c.plan.where, 0 // nothing else of it stands in the rule
	return s.out
}

// generateUpside reads by keyset. The predicate is a > ? or (a = ? and b > ?), because MariaDB and MySQL turn it into
// index ranges. They do not do so with a row value (a, b) > (?, ?).
func (c *compiler) generateUpside(key []string) {
	if c.plan.Changes {
		c.generateChanges(key)
		return
	}
	if mark := c.watermark(); mark != nil {
		c.generateByTime(mark, key)
	} else if c.errors == 0 && c.pageable(key) {
		c.plan.Cursor, c.plan.Upside = key, []Statement{*c.pages(key, key, "")}
	}
}

// pageable reports whether the table can be read in the order of its key.
func (c *compiler) pageable(key []string) bool {
	for _, n := range key {
		col := c.table.Column(n)
		if col == nil || col.Type == "bit" {
			return c.refuseIn(UnpageableKey, "sync_table", "the key "+n+" cannot be paged", "write sync_sql")
		}
		if keyExpr(col) != Quote(col.Name) {
			c.warnIn(NoWatermarkIndex, "sync_table",
				"the key "+n+" is "+col.Type+" and is read in the order of its text, without index", "use varchar")
		}
	}
	return true
}

// pages reads the table in the order of some columns, behind a state with one item for each of them; its Start reads
// from the beginning.
func (c *compiler) pages(columns, items []string, bound string) *Statement {
	var cursor []*Column
	for _, n := range columns {
		cursor = append(cursor, c.table.Column(n))
	}
	fields := QuoteAll(c.plan.Fields)
	if c.plan.Changes && c.caseless(columns) {
		fields += ", 2 as " + rowset.Deleted
	}
	tail := c.table.orderBy(columns, "") + "\nlimit :limit"
	page, start := c.selects(fields, tail, "("+keyset(cursor, items)+")", bound, c.plan.clause()),
		c.selects(fields, tail, bound, c.plan.clause())
	page.Start = &start
	return &page
}

// selects reads the rows of the table for which all of the factors hold. An empty factor does not count.
func (c *compiler) selects(fields, tail string, factors ...string) Statement {
	where := strings.Join(slices.DeleteFunc(factors, func(f string) bool { return f == "" }), "\n  and ")
	if where != "" {
		where = "\nwhere " + where
	}
	return c.statementOf(Select, "select "+fields+"\nfrom "+c.table.Quoted()+where+tail)
}

// generateChanges reads what the change table has, and before there is any state the table itself.
func (c *compiler) generateChanges(key []string) {
	if c.table.Changes == nil || len(c.table.Changes.Faults) > 0 {
		faults := "there is no change table"
		if c.table.Changes != nil {
			faults = strings.Join(c.table.Changes.Faults, "; ")
		}
		c.refuseIn(NotRecorded, "sync_sql", "the changes of "+c.row.Table+" are not recorded: "+faults,
			"syncgate rules init "+c.row.Table+" --changes --write")
		return
	}
	if !c.pageable(key) {
		return
	}
	c.plan.Load = c.pages(key, Items(len(key), LoadItem), c.notFromThere(key))
	c.plan.Cursor = []string{rowset.ChangeSeq}
	from, fields := c.changesJoined(key, "")
	c.plan.Upside = []Statement{c.statementOf(Select, "select sync_seq, sync_origin, "+fields+",\n  "+c.isDeleted(key)+
		", sync_at\nfrom "+from+
		"\nwhere sync_seq > :state.sync_seq and not (sync_origin <=> :sync_origin)\norder by sync_seq\nlimit :limit")}
}

// notFromThere is the condition of the rows whose last change did not come from the other side. A first load leaves the
// others out: the other side has them, and may have changed them meanwhile. A change before complete_from may not be
// the row's last.
func (c *compiler) notFromThere(key []string) string {
	changes := c.table.Changes
	return "not exists (select 1 from " + changes.Name + " sync_change where " +
		SameKey(key, "sync_change", c.table.Quoted()) +
		" and sync_change.sync_origin = :sync_origin\n    and (sync_change.sync_seq = 0 or sync_change.sync_seq >= " +
		"(select complete_from from sync_sequence where sync_table = " + Constant(changes.Sequence) + ")))"
}

// changesJoined is the change table joined with the table, and the rule's fields in it. The change table's columns have
// names of their own, so that a condition needs no qualified names; the database merges the inner select into the
// outer one.
func (c *compiler) changesJoined(key []string, where string) (from, fields string) {
	table := c.table.Quoted()
	var inner, on, list []string
	for i, k := range key {
		inner = append(inner, fmt.Sprintf("%s as sync_key_%d", Quote(k), i+1))
		on = append(on, fmt.Sprintf("%s.%s = sync_change.sync_key_%d", table, Quote(k), i+1))
	}
	if clause := c.plan.clause(); clause != "" {
		on = append(on, clause)
	}
	for _, f := range c.plan.Fields {
		switch i := index(key, f); {
		case i < 0:
			list = append(list, table+"."+Quote(f))
		case isText(c.table.Column(f)):
			// The change table may have another spelling that the collation takes for the same.
			list = append(list, fmt.Sprintf("coalesce(%s.%s, sync_key_%d) as %s", table, Quote(f), i+1, Quote(f)))
		default:
			list = append(list, fmt.Sprintf("sync_key_%d as %s", i+1, Quote(f)))
		}
	}
	return "(select " + strings.Join(inner, ", ") + ", sync_seq, sync_origin, sync_at from " +
		c.table.Changes.Name + where + ") sync_change\nleft join " + table + " on " +
		strings.Join(on, "\n  and "), strings.Join(list, ", ")
}

// isDeleted is the mark of a row: that it is no longer there, or how its key is compared.
func (c *compiler) isDeleted(key []string) string {
	missing := c.table.Quoted() + "." + Quote(key[0]) + " is null"
	if c.caseless(key) {
		missing = "if(" + missing + ", 1, 2)"
	}
	return missing + " as " + rowset.Deleted
}

// caseless reports whether some column of the key has a collation that takes different letters for the same.
func (c *compiler) caseless(key []string) bool {
	return slices.ContainsFunc(key, func(k string) bool {
		col := c.table.Column(k)
		return col.spellings() && !strings.HasSuffix(col.Collation, "_bin")
	})
}

// spellings reports whether the column's collation takes different texts for the same, such as a and A, or a and "a ".
func (col *Column) spellings() bool {
	return col != nil && col.Collation != "" && (isText(col) || strings.HasSuffix(col.Type, "text")) &&
		!strings.HasSuffix(col.Collation, "_nopad_bin")
}

func isText(col *Column) bool { return col != nil && (col.Type == "char" || col.Type == "varchar") }

// keyset is the predicate for the rows behind the state in the order of the columns.
func keyset(cursor []*Column, items []string) string {
	expr, mark := keyExpr(cursor[0]), keyMark(cursor[0], items[0])
	if len(cursor) == 1 {
		return expr + " > " + mark
	}
	rest := keyset(cursor[1:], items[1:])
	if len(cursor) > 2 {
		rest = "(" + rest + ")"
	}
	return expr + " > " + mark + " or (" + expr + " = " + mark + " and " + rest + ")"
}

// keyExpr is the column as it is ordered and compared. Text uses the column's own collation in both places. ENUM and
// SET sort by number but compare to text, so both places use their text.
func keyExpr(col *Column) string {
	if col.Type == "enum" || col.Type == "set" {
		return "concat(" + Quote(col.Name) + ")"
	}
	return Quote(col.Name)
}

// keyMark is the state to compare a key with.
func keyMark(col *Column, item string) string {
	return exact(col, (&Arg{Source: State, Name: item}).named())
}

// exact is a parameter to compare with a column. A DECIMAL travels as text, and MySQL compares text with it as a float.
func exact(col *Column, mark string) string {
	if col.Type == "decimal" {
		decimal, _, _ := strings.Cut(col.ColumnType, " ") // without unsigned and zerofill
		return "cast(" + mark + " as " + decimal + ")"
	}
	return mark
}

// generateDelete deletes rows by primary key. Several are joined as the tuples of an insert are.
func (c *compiler) generateDelete(key []string) {
	in, tuple, tail := "\nwhere ("+QuoteAll(key)+") in (", "("+c.marks(key)+")", ")"
	head := "delete from " + c.table.Quoted() + in
	st := c.statementOf(Delete, head+tuple+tail)
	st.Insert = &InsertParts{Head: head, Tuple: st.SQL[len(head) : len(st.SQL)-len(tail)], Tail: tail}
	c.plan.Delete = []Statement{st}
	if c.table.Changes != nil && len(c.table.Changes.Faults) == 0 {
		from, fields := c.changesJoined(key, in+tuple+tail)
		present := c.statementOf(Select, "select sync_seq, sync_origin, sync_at, "+c.isDeleted(key)+", "+fields+
			"\nfrom "+from)
		c.plan.Present = &present
	}
}

// marks are the values of a key in the row in hand.
func (c *compiler) marks(key []string) string {
	return Join(key, ", ", func(k string) string {
		return exact(c.table.Column(k), (&Arg{Source: Field, Name: k}).named())
	})
}

// generateDownside is an upsert by primary key.
func (c *compiler) generateDownside(key []string) {
	var values, sets []string
	for _, f := range c.plan.Fields {
		value := (&Arg{Source: Field, Name: f}).named()
		if col := c.table.Column(f); c.row.UpdateTime && sameName(f, c.markColumn()) && isClock(col) {
			value = "now(6)" // the session is in the zone of the database's other writers
		}
		values = append(values, value)
		if !contains(key, f) {
			sets = append(sets, Quote(f)+" = values("+Quote(f)+")")
		}
	}
	if len(sets) == 0 {
		sets = []string{Quote(key[0]) + " = " + Quote(key[0])}
	}
	head := "insert into " + c.table.Quoted() + " (" + QuoteAll(c.plan.Fields) + ")\nvalues (" +
		strings.Join(values, ", ") + ")\non duplicate key update "
	upsert := func(guards ...string) Statement {
		return c.statementOf(Insert, head+strings.Join(append(guards, sets...), ", "))
	}
	c.plan.Downside = []Statement{upsert(c.guard(key, true)...)}
	c.generateOthers(key, upsert)
	c.generateDelete(key)
	for _, col := range missingColumns(c.table, c.plan.Fields) {
		c.warnIn(UnfilledColumn, "sync_field", col+" has no default and gets no value", "add it, or give it a default")
	}
	if col := c.table.Column(key[0]); c.row.Type == Upload && len(key) == 1 && col != nil && col.Auto {
		c.warnIn(SharedKey, "sync_table", "each point counts "+key[0]+" from 1, so two points overwrite rows",
			"add the point's number to the primary key")
	}
}

// guard keeps an upsert from the data of another row: the row that it meets must have this primary key. The key's first
// column becomes NULL otherwise, which the database refuses. Spelled means that the key's text must be the same, and
// not only equal to its collation; without it the row that is met gets the new spelling.
func (c *compiler) guard(key []string, spelled bool) []string {
	same, sets, needed := make([]string, len(key)), make([]string, len(key)), len(c.otherUnique()) > 0
	for i, k := range key {
		mine, other := Quote(k), "values("+Quote(k)+")"
		text := c.table.Column(k).spellings()
		if needed = needed || text; text && spelled {
			same[i] = "binary " + mine + " = binary " + other
		} else {
			same[i] = mine + " = " + other
		}
		if sets[i] = mine; text && !spelled {
			sets[i] = other
		}
	}
	if !needed {
		return nil
	}
	all := []string{Quote(key[0]) + " = if(" + strings.Join(same, " and ") + ", " + sets[0] + ", null)"}
	for i := 1; i < len(key) && !spelled; i++ {
		all = append(all, Quote(key[i])+" = "+sets[i])
	}
	return all
}

// otherUnique are the unique keys beside the primary one.
func (c *compiler) otherUnique() (keys []Key) {
	for _, k := range c.table.Keys {
		if k.Unique && !k.Primary {
			keys = append(keys, k)
		}
	}
	return keys
}

// generateOthers makes the statements for rows that the upsert does not take.
func (c *compiler) generateOthers(key []string, upsert func(guards ...string) Statement) {
	p, table := c.plan, c.table.Quoted()
	where := "\nwhere (" + QuoteAll(key) + ") in ((" + c.marks(key) + "))"
	p.Guarded = len(c.guard(key, true)) > 0
	if slices.ContainsFunc(key, func(k string) bool { return c.table.Column(k).spellings() }) {
		respell := upsert(c.guard(key, false)...)
		p.Respell = &respell
	}
	find := c.statementOf(Select, "select "+QuoteAll(p.Fields)+"\nfrom "+table+where+" for update")
	p.Find = &find
	var empty []string // columns that make their unique key give its value free
	for _, k := range c.otherUnique() {
		at := slices.IndexFunc(k.Columns, func(name string) bool {
			col := c.table.Column(name)
			return col != nil && col.Nullable && !col.Generated && !contains(key, name)
		})
		if at < 0 {
			empty = nil
			break
		}
		empty = append(empty, Quote(k.Columns[at])+" = null")
	}
	switch {
	case len(empty) > 0:
		free := c.statementOf(Update, "update "+table+" set "+strings.Join(empty, ", ")+where)
		p.Free = &free
	case len(c.otherUnique()) > 0 && !c.table.Referred && allIn(c.table.names(written), p.Fields):
		free := c.statementOf(Delete, "delete from "+table+where)
		p.Free = &free
	}
}

func written(col *Column) bool { return !col.Generated }

// Quoted is the table's name as SQL.
func (t *Table) Quoted() string { return t.Beside(t.Name) }

// Beside is the name of an object in the table's database.
func (t *Table) Beside(name string) string {
	if t.Schema == "" {
		return Quote(name)
	}
	return Quote(t.Schema) + "." + Quote(name)
}

// orderBy sorts by columns, each in a direction.
func (t *Table) orderBy(columns []string, direction string) string {
	return "\norder by " + Join(columns, ", ", func(n string) string { return keyExpr(t.Column(n)) + direction })
}

// FullName is the table's name with its database's in front where that is not the session's own.
func (t *Table) FullName() string {
	if t.Schema == "" {
		return t.Name
	}
	return t.Schema + "." + t.Name
}
