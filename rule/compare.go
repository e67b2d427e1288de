package rule

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Comparison makes the statements by which the two sides compare a table. Each row has a checksum of the fields that
// both sides compare; ranges of rows are those between two primary keys.
type Comparison struct {
	Columns []string // the fields that are compared
	Key     []string
	Order   string // of the rows
	Own     bool   // rows whose last change came from the other side are not compared

	reads compiler // of statements with bounds
	keyed compiler // of statements that take a key as the row in hand
	where string   // beside the rule's own condition
	own   string   // the rows whose last change came from the side of Env.Origin
}

// FromItem and ToItem name the i-th columns, in the state, of the keys that a range begins behind and ends at.
func FromItem(i int) string { return fmt.Sprintf("from_%d", i+1) }

// ToItem is described with FromItem.
func ToItem(i int) string { return fmt.Sprintf("to_%d", i+1) }

// Compare makes a comparison of the fields that are asked for, as far as this side compares them; nil asks for all.
// where is a condition of the rows beside the rule's own.
func (p *Plan) Compare(asked []string, where string) (*Comparison, error) {
	x := &Comparison{Key: p.Key, where: where}
	if p.Form != Generated || p.table == nil || !p.HasKey() {
		return nil, errors.New("its rule has SQL of its own, and only tables of rules without SQL can be compared")
	}
	for _, f := range p.Fields {
		if p.Row.UpdateTime && sameName(f, updateTimeColumn) {
			continue // each side has its own
		}
		if asked == nil || contains(asked, f) {
			x.Columns = append(x.Columns, f)
		}
	}
	slices.SortFunc(x.Columns, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	x.reads, x.keyed = p.comparer(upside), p.comparer(downside)
	if where != "" {
		c := &x.reads
		c.plan.where = &source{text: where, column: where}
		if c.checkWhere(); c.errors > 0 {
			i := slices.IndexFunc(c.out, func(d Diagnostic) bool { return d.Severity == Error })
			d := c.out[i]
			return nil, fmt.Errorf("the condition, character %d: %s %s; %s", d.Col, d.Code, d.Message, d.Fix)
		}
		c.plan.where = nil
	}
	x.Order = p.table.orderBy(x.Key, "")
	return x, nil
}

// Conditional reports whether not all rows of the table are compared.
func (x *Comparison) Conditional() bool { return x.where != "" || x.reads.plan.Where != "" }

// comparer is a compiler of statements that run in one of the phases, whichever the rule has. The row in hand is a key.
func (p *Plan) comparer(in phase) compiler {
	plan := &Plan{Row: p.Row, Fields: p.Key, Options: p.Options, Period: p.Period}
	plan.where = nil
	c := compiler{row: p.Row, table: p.table, plan: plan}
	if c.row.mainPhase() != in {
		c.row.User = map[string]string{Server: Client, Client: Server}[c.row.User]
	}
	return c
}

// OnlyFromThere leaves out rows whose last change did not come from the side of Env.Origin. It reports whether that is
// known.
func (x *Comparison) OnlyFromThere() bool {
	if !x.recorded() {
		return false
	}
	x.own = "exists (select 1 from " + x.changesOf() + " and sync_change.sync_origin = :sync_origin)"
	return true
}

func (x *Comparison) recorded() bool {
	changes := x.reads.table.Changes
	return changes != nil && len(changes.Faults) == 0
}

// changesOf is the change of a row, as a table and a condition.
func (x *Comparison) changesOf() string {
	table := x.reads.table
	return table.Changes.Name + " sync_change where " + SameKey(x.Key, "sync_change", table.Quoted())
}

// checksum is 64 bits of a hash of the fields, as the database writes them.
func (x *Comparison) checksum() string {
	parts := Join(x.Columns, ", ", func(f string) string {
		text := Quote(f)
		switch col := x.reads.table.Column(f); {
		case col.Type == "timestamp": // in UTC, whatever the session's zone is
			text = "coalesce(convert_tz(" + text + ", @@session.time_zone, '+00:00'), " + text + ")"
		case col.Binary:
			text = "hex(" + text + ")"
		case col.Collation != "":
			text = "convert(" + text + " using utf8mb4)"
		}
		return "coalesce(concat(length(" + text + "), ':', " + text + "), '-')"
	})
	return "cast(conv(left(md5(concat(" + parts + ")), 16), 16, 10) as unsigned)"
}

// within is the condition of the rows of a range.
func (x *Comparison) within(from, to bool, factors ...string) string {
	var cursor []*Column
	for _, k := range x.Key {
		cursor = append(cursor, x.reads.table.Column(k))
	}
	behind := func(item func(int) string) string { return "(" + keyset(cursor, Items(len(cursor), item)) + ")" }
	if from {
		factors = append(factors, behind(FromItem))
	}
	if to {
		factors = append(factors, "not "+behind(ToItem))
	}
	return "\nwhere " + strings.Join(append([]string{"true"}, factors...), "\n  and ")
}

func (x *Comparison) conditions() (factors []string) {
	if clause := x.reads.plan.clause(); clause != "" {
		factors = append(factors, clause)
	}
	if x.where != "" {
		factors = append(factors, "("+x.where+"\n)")
	}
	return factors
}

func (x *Comparison) table() string { return "\nfrom " + x.reads.table.Quoted() }

// List reads the keys and the checksums of a range, and of each row whether it is not to be compared: it has a change
// that the other side has not acknowledged, with a number above the state's sync_seq, or Own leaves it out.
func (x *Comparison) List(from, to bool) Statement {
	waits := "0"
	if x.recorded() {
		waits = "exists (select 1 from " + x.changesOf() + " and (" + unsent
		if x.Own {
			waits += " or sync_origin = :sync_origin"
		}
		waits += "))"
	}
	return x.reads.statementOf(Select, "select "+QuoteAll(x.Key)+", "+x.checksum()+", "+waits+x.table()+
		x.within(from, to, x.conditions()...))
}

const unsent = "not (sync_origin <=> :sync_origin) and (sync_seq = 0 or sync_seq > :state.sync_seq)"

// Gone reads the keys of a range that were deleted here, where the other side has not acknowledged it; false: deletes
// are not recorded.
func (x *Comparison) Gone(from, to bool) (Statement, bool) {
	if !x.recorded() {
		return Statement{}, false
	}
	table := x.reads.table
	return x.reads.statementOf(Select, "select "+QuoteAll(x.Key)+"\nfrom "+table.Changes.Name+" sync_change"+
		x.within(from, to, unsent, "not exists (select 1 from "+table.Quoted()+" sync_row where "+
			SameKey(x.Key, "sync_row", "sync_change")+")")), true
}

// Sum reads the number of rows and the checksum of a range.
func (x *Comparison) Sum(from, to bool) Statement {
	return x.reads.statementOf(Select, "select count(*), bit_xor("+x.checksum()+")"+x.table()+
		x.within(from, to, x.theirs()...))
}

// theirs are the conditions of the rows that are the other side's to have.
func (x *Comparison) theirs() []string {
	factors := x.conditions()
	if x.own != "" {
		factors = append(factors, x.own)
	}
	return factors
}

// Lookup reads the checksum of the row with the key in hand, as a value. Several values make one row.
func (x *Comparison) Lookup() Statement {
	return x.keyed.statementOf(Select, "(select "+x.checksum()+x.table()+
		strings.Join(append([]string{"\nwhere " + x.inTuples(x.tuple())}, x.conditions()...), "\n  and ")+")")
}

func (x *Comparison) tuple() string { return "(" + x.keyed.marks(x.Key) + ")" }

func (x *Comparison) inTuples(tuples string) string {
	return "(" + QuoteAll(x.Key) + ") in (" + tuples + ")"
}

// Extra reads the keys of a range that are not among those that follow, each a Tuple.
func (x *Comparison) Extra(from, to bool) Statement {
	return x.reads.statementOf(Select, "select "+QuoteAll(x.Key)+x.table()+x.within(from, to, x.theirs()...))
}

// Except is the condition of Extra about the keys that follow, and Tuple is one of them.
func (x *Comparison) Except(tuples string) string { return "\n  and not (" + x.inTuples(tuples) + ")" }

// Tuple is the key in hand.
func (x *Comparison) Tuple() Statement { return x.keyed.statementOf(Select, x.tuple()) }
