package store

import (
	"context"
	"errors"
	"slices"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

// Sink takes a result while it arrives. An error of either method stops the query, and Read returns it. ErrEnough is no
// failure: the sink took the row and wants no more. ErrFull is an ErrEnough for a row that the sink did not take; a
// paged plan begins with it the next time.
type Sink interface {
	// Begin announces the rows of the plan's statement with that index, also when there are none. It is called once for
	// all pages of a paged statement.
	Begin(statement int, cols []rowset.Column) error
	// Row takes one row. The values of type []byte are valid only during the call.
	Row(values []any) error
}

// Stateful is a Sink that wants to know, while rows arrive, the state behind the rows that it has taken before. nil: no
// row says it. It is called before Begin.
type Stateful interface {
	State(behind func() []rowset.StateItem)
}

// Page says where a read ended.
type Page struct {
	State []rowset.StateItem // of a paged plan: from where the next read goes on; unchanged when there was no row
	More  bool               // the sink had enough before the last row; read again from State
	Rows  uint64
	// Origins are the points that recorded changes in the page come from, when it was read for no point in particular
	// (rule.Env.Origin is empty). To one of them the page is not to be sent: it must not get its own changes back.
	Origins map[string]bool
}

// Read runs the upside of a plan and gives each row to sink when it arrives; it holds one row at a time. It repeats a
// paged plan from its last row until a page is short. When sink fails, or ctx ends, the connection is closed, which
// ends the query at the server. ErrAltered: the rows may lack values of columns that the rule's table has got
// meanwhile.
func (s *Store) Read(ctx context.Context, p *rule.Plan, e rule.Env, sink Sink) (Page, error) {
	var page Page
	begun := false
	err := s.retry(ctx, func(c *conn) error {
		r := &reader{ctx: ctx, c: c, s: s, p: p, env: e, sink: sink}
		err := r.read()
		if err == nil && r.page.Rows > 0 {
			err = c.checkColumns(ctx, p)
		}
		page, begun = r.page, r.begun
		if begun && (kindOf(err) == kindLost || kindOf(err) == kindRetry) {
			c.broken = true
			return notFromDB(public(err)) // sink has rows already, so there is no second try
		}
		return err
	})
	if err != nil {
		return Page{Rows: page.Rows}, s.explainLock(ctx, p, err)
	}
	return page, nil
}

// checkColumns returns ErrAltered when the plan's table has other columns than those that the plan was made with.
// Behind a read it finds every ALTER that the rows can have met.
func (c *conn) checkColumns(ctx context.Context, p *rule.Plan) error {
	if p.Form != rule.Generated || p.Table == nil {
		return nil
	}
	same, err := c.sameColumns(ctx, p.Table)
	if err == nil && !same {
		err = notFromDB(ErrAltered)
	}
	return err
}

// reader is one Read.
type reader struct {
	ctx  context.Context
	c    *conn
	s    *Store
	p    *rule.Plan
	env  rule.Env
	sink Sink
	inTx bool // of the caller

	session  *zone // of the statements
	shown    *zone // of the TIMESTAMPs that the sink gets
	instants []int // places of TIMESTAMPs in a row

	reach    *reach // of a plan that reads by time; nil: not asked yet
	caughtUp bool   // what is new has been read

	page   Page
	begun  bool
	width  int // columns of a row
	pages  *paging
	cursor []int // places of the paging's columns in a row
	last   []any // their values in the last row
	texts  arena
}

// paging is how a statement's pages go on from one another.
type paging struct {
	first, next *rule.Statement
	columns     []string                // whose values in the last row become the state
	items       []string                // what they are called in the state
	keep, after []rowset.StateItem      // what the state has before and after them
	hidden      int                     // columns at the beginning of a row that are for the state alone
	bound       string                  // of times that are read, where it is not that of the clock
	limit       int                     // rows of its only page; 0: there are more pages, of r.env.Limit rows
	only        func(values []any) bool // which rows the sink gets; they do not move the state. nil: all, and they do
	end         func() bool             // corrects the page behind the last row and says whether to go on; nil: the end
}

func (r *reader) read() error {
	if r.p.Paged() {
		r.page.State = r.env.State
		if r.env.Limit <= 0 {
			r.env.Limit = rule.DefaultLimit
		}
	}
	if err := r.chooseZones(); err != nil {
		return err
	}
	if err := r.askClock(); err != nil {
		return err
	}
	for i := range r.p.Upside {
		if err := r.statement(i); err != nil {
			if errors.Is(err, ErrEnough) {
				r.page.More = true
				return nil
			}
			return err
		}
	}
	return nil
}

// chooseZones chooses the zones of the session, the rows and the state. SQL of a rule's own needs the zone of the
// database's other clients. Generated SQL reads in UTC, where no hour comes twice. A condition in it is SQL of the
// rule's author, but an instant must not be lost either: it gets the present offset of that zone.
func (r *reader) chooseZones() error {
	r.session, r.shown = utc, utc
	if own := r.p.Form != rule.Generated; own || r.p.Where != "" || r.env.Wall {
		local, err := r.s.localZone(r.ctx, r.c)
		if err != nil {
			return err
		}
		switch {
		case own:
			r.session = local
		case r.p.Where != "":
			r.session = local.now()
		}
		if r.env.Wall {
			r.shown = local
		}
	}
	if r.p.Form == rule.Generated {
		r.env.State = r.inUTC(r.env.State)
	}
	if err := r.c.useZone(r.ctx, r.session); err != nil {
		return err
	}
	return r.c.fillTimes(r.ctx, r.p, &r.env)
}

// boundByNow lets the statements of a plan read up to the present time.
func (r *reader) boundByNow() error {
	err := r.chooseZones()
	if err == nil && r.p.Mark != nil {
		var now clock
		now, err = r.s.clockOf(r.ctx, r.c)
		text := timeText(now.now.in(r.p.Mark.Local), 6)
		r.env.Bound, r.env.LocalBound = text, text
	}
	return err
}

// inUTC is a state whose TIMESTAMPs are marked or, where the rows show them so, in another zone.
func (r *reader) inUTC(state []rowset.StateItem) []rowset.StateItem {
	state = slices.Clone(state)
	for i, item := range state {
		if instant, ok := rowset.CutInstant(item.Value); ok {
			state[i].Value = instant
			continue
		}
		name := item.Name
		if name == "" && i < len(r.p.Cursor) {
			name = r.p.Cursor[i]
		}
		if col := r.p.Table.Column(name); col != nil && col.Type == "timestamp" {
			state[i].Value = convert(item.Value, r.shown, utc)
		}
	}
	return state
}

// bind puts the values of a statement into the session's zone and into c.args.
func (r *reader) bind(st *rule.Statement, env *rule.Env) (err error) {
	if err := r.c.bind(st, env, nil); err != nil {
		return err
	}
	for i := range st.Args {
		a, v := &st.Args[i], &r.c.args[i]
		if instant, ok := rowset.CutInstant(*v); ok && a.Source == rule.State {
			*v = r.session.wall(instant)
		} else if r.p.Form == rule.Generated && (a.Instant || a.Source == rule.Bound) {
			*v = convert(*v, utc, r.session)
		}
	}
	return r.c.useZone(r.ctx, r.session)
}

// askClock gets the bound that the statements of a rule's own SQL use.
func (r *reader) askClock() error {
	bounded := func(st rule.Statement) bool { return st.Uses(rule.Bound, rule.LocalBound) }
	if r.p.Mark != nil || !slices.ContainsFunc(r.p.Upside, bounded) {
		return nil
	}
	now, err := r.s.clockOf(r.ctx, r.c)
	local := now.bound(r.p, true, 6)
	r.env.Bound, r.env.LocalBound = local, local // as the session shows both
	return err
}

// statement runs one upside statement, part by part and page by page when it is paged.
func (r *reader) statement(i int) error {
	for begin, more := true, true; more; begin = false {
		pages, err := r.paging(&r.p.Upside[i])
		if err == nil {
			err = r.part(i, &pages, begin)
		}
		if err != nil {
			return err
		}
		more = pages.end != nil && pages.end()
	}
	return nil
}

// part runs the pages of one part of a statement.
func (r *reader) part(i int, pages *paging, begin bool) error {
	if pages.bound != "" {
		r.env.Bound, r.env.LocalBound = pages.bound, pages.bound
	}
	if pages.limit > 0 {
		r.env.Limit = pages.limit
	}
	r.cursor, r.pages = nil, pages
	for st := pages.first; ; st = pages.next {
		rows, err := r.run(i, st, pages, begin)
		begin = false
		if r.last != nil {
			r.setState(r.behind(pages))
			r.last = nil
		}
		if err != nil || !r.p.Paged() || rows < r.env.Limit || pages.limit > 0 {
			return err
		}
	}
}

// behind is the state behind the last row.
func (r *reader) behind(pages *paging) []rowset.StateItem {
	state := slices.Clone(pages.keep)
	for k, name := range pages.items {
		state = append(state, rowset.StateItem{Name: name, Value: r.last[k]})
	}
	return append(state, pages.after...)
}

// soFar is the state behind the rows that the sink has; nil when they do not move it.
func (r *reader) soFar() []rowset.StateItem {
	switch {
	case r.pages.only != nil:
		return nil
	case r.last == nil:
		return r.page.State
	}
	return r.behind(r.pages)
}

// paging is how the pages of a statement begin and go on.
func (r *reader) paging(st *rule.Statement) (paging, error) {
	switch {
	case r.p.Mark != nil:
		return r.byTime()
	case r.p.Load != nil:
		return r.changes(st)
	case r.p.Recorded != nil && slices.Contains(r.p.Cursor, rowset.ChangeSeq): // SQL of the rule's own that reads them
		if _, err := sequence(r.ctx, r.c, r.p); err != nil {
			return paging{}, err
		}
	}
	pages := r.byCursor(st)
	if st.Start != nil && len(r.env.State) == 0 {
		pages.first = st.Start
	}
	return pages, nil
}

// byCursor is how a statement goes on from its last row.
func (r *reader) byCursor(st *rule.Statement) paging {
	return paging{first: st, next: st, columns: r.p.Cursor, items: r.p.Cursor}
}

// changes is how the changes of a table are read: in the order of their numbers, or, where there is no state yet or the
// state stands below the first change that is still known, from the table itself.
func (r *reader) changes(feed *rule.Statement) (paging, error) {
	at, err := sequence(r.ctx, r.c, r.p)
	if err != nil {
		return paging{}, err
	}
	began, ok := stateNumber(r.env.State, rowset.ChangeSeq)
	loading := slices.ContainsFunc(r.env.State, func(i rowset.StateItem) bool { return i.Name == rule.LoadItem(0) })
	_, again := itemOf(r.env.State, rowset.Reload)
	switch {
	case !ok, began > at.upTo: // in the second case the state is of a later copy of this database
		r.env.State, again = nil, false
	case began < at.completeFrom:
		r.env.State, again = nil, true
	}
	var after []rowset.StateItem
	if again {
		after = []rowset.StateItem{number(rowset.Reload, 1)}
	}
	number := func(n uint64) []rowset.StateItem {
		return append([]rowset.StateItem{number(rowset.ChangeSeq, n)}, after...)
	}
	has := r.env.State
	if len(has) == 0 {
		has = number(at.upTo)
	}
	r.s.NoteReader(r.p, r.env.Origin, has)
	if len(r.env.State) > 0 && !loading {
		pages := r.byCursor(feed)
		pages.after, pages.hidden = after, 2
		pages.end = func() bool {
			// The changes between the last row and at.upTo are not for this reader.
			if last, _ := stateNumber(r.page.State, rowset.ChangeSeq); last < at.upTo {
				r.page.State = number(at.upTo)
			}
			r.page.More = at.more
			return false
		}
		return pages, nil
	}
	load := paging{first: r.p.Load, next: r.p.Load, columns: r.p.Key, keep: number(began),
		items: rule.Items(len(r.p.Key), rule.LoadItem)}
	switch {
	case len(r.env.State) == 0:
		load.first, load.keep = r.p.Load.Start, number(at.upTo)
	case r.env.State[1].Value == nil: // again, and then what has changed since began
		load.first = r.p.Load.Start
	}
	load.end = func() bool { // now what has changed meanwhile
		r.page.State, r.page.More = load.keep, true
		return false
	}
	return load, nil
}

// stateNumber is a number in a state.
func stateNumber(state []rowset.StateItem, name string) (uint64, bool) {
	v, _ := itemOf(state, name)
	switch v.(type) {
	case int64, uint64:
		return asUint(v), true
	}
	return 0, false
}
