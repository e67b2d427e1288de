package rule

import (
	"cmp"
	"fmt"
	"time"
)

// DefaultLag is how far reading stays behind the database's clock. It covers a writer whose transaction the database
// does not show yet.
const DefaultLag = 2 * time.Second

// Mark is the column whose times a generated upside advances by. Load reads the table by key up to
// :sync_bound, Upside reads on from there by this column.
type Mark struct {
	Table  string // as sync_reread names it
	Column string
	Local  bool // a DATETIME, which holds the time of the server's own zone; a TIMESTAMP shows that of the session's
	Digits int  // of the fraction of a second

	// Again reads times up to :sync_bound that lie behind the state's items RereadItem(0), RereadItem(1), …
	Again Statement
	// Scan gives the time and the key of each row whose time is after :state.Column, the latest first.
	Scan Statement
	// Last gives the cursor of the last row up to :sync_bound.
	Last Statement
}

// RereadItem is the name in the state of the i-th column of the cursor up to which a range of times is read again.
func RereadItem(i int) string { return fmt.Sprintf("sync_reread_%d", i+1) }

// UpdateColumn is the column that the database sets at each update, for a table without update_time; "" when there is
// none, or several.
func (t *Table) UpdateColumn() string {
	names := t.names(func(c *Column) bool { return c.OnUpdate && isClock(c) })
	if col := t.Column(updateTimeColumn); col != nil && isClock(col) || len(names) != 1 {
		return ""
	}
	return names[0]
}

// markColumn is the name of the watermark.
func (c *compiler) markColumn() string { return cmp.Or(c.plan.Watermark, updateTimeColumn) }

// watermark is the column that the pages advance by. It reports why there is none and returns nil.
func (c *compiler) watermark() *Column {
	name := c.markColumn()
	col := c.table.Column(name)
	const changes = "; or record the changes: -- option: changes"
	switch {
	case col == nil && c.plan.Watermark != "":
		c.refuseIn(UnknownColumn, "sync_sql", "the watermark "+name+" is no column of "+c.row.Table,
			hint(name, c.table.names(isClock)))
	case col == nil:
		c.warnIn(NoWatermark, "sync_table", c.row.Table+" has no update_time, so only new keys are read",
			"add update_time datetime(6) not null default current_timestamp(6) on update current_timestamp(6)"+changes)
	case !isClock(col):
		c.warnIn(NoWatermark, "sync_table", name+" is "+col.ColumnType+", not a time", "make it datetime(6)"+changes)
	case c.fieldIndex(col.Name) < 0:
		c.warnIn(NoWatermark, "sync_field", "the fields lack "+name+", so changed rows are not seen", "add it")
	default:
		if col.Nullable {
			c.warnIn(NullWatermark, "sync_table", "a row whose "+name+" is null is never read",
				"make it not null"+changes)
		}
		return col
	}
	return nil
}

// generateByTime reads by key up to the time when the first read begins, and from then on by the watermark.
func (c *compiler) generateByTime(mark *Column, key []string) {
	names := []string{mark.Name}
	for _, k := range key {
		if !sameName(k, mark.Name) {
			names = append(names, k)
		}
	}
	if !c.pageable(key) {
		return
	}
	if !c.table.hasKeyOn(mark.Name) {
		c.warnIn(NoWatermarkIndex, "sync_table", "no index begins with "+mark.Name+": each page reads all rows",
			c.indexFix(names...))
	}
	if c.table.Unseen {
		c.warnIn(UnseenTransactions, "sync_table", fmt.Sprintf("the account may not see the transactions of others: "+
			"a row that is committed more than %v after its %s can be missed", c.plan.Lag, mark.Name),
			"grant process on *.* to the account; or record the changes: -- option: changes")
	}
	c.column(Info, UnseenDeletes, "sync_table",
		"reading by "+mark.Name+" sees neither deleted rows nor the old keys of changed ones",
		"nothing, if rows stay and keep their keys; else record the changes: -- option: changes")
	bound := Quote(mark.Name) + " <= :sync_bound"
	m := &Mark{Table: c.table.FullName(), Column: mark.Name, Local: mark.Type == "datetime",
		Digits: narrowOf(mark).most}
	page, again := c.pages(names, names, bound), c.pages(names, Items(len(names), RereadItem), bound)
	page.Start, again.Start = nil, nil
	m.Again = *again
	m.Scan = c.selects(QuoteAll(names), "\norder by "+Quote(mark.Name)+" desc\nlimit :limit",
		Quote(mark.Name)+" > "+keyMark(mark, mark.Name))
	m.Last = c.selects(QuoteAll(names), c.table.orderBy(names, " desc")+"\nlimit 1", bound, c.plan.clause())
	c.plan.Load, c.plan.Mark, c.plan.Cursor = c.pages(key, Items(len(key), LoadItem), bound), m, names
	c.plan.Upside = []Statement{*page}
}

func isClock(col *Column) bool { return col.Type == "datetime" || col.Type == "timestamp" }
