package agent

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"text/tabwriter"
)

// moved counts what one rule did. For an upload, rows are those the centre acknowledged
// and quarantined of them those it put aside; for a download, rows are those received.
type moved struct {
	rows, batches, quarantined int64
}

// tally is what moved since the agent was made.
type tally struct {
	mu    sync.Mutex
	moved map[ruleName]moved
	errs  map[ruleName]error
}

func (t *tally) add(n ruleName, m moved) {
	t.mu.Lock()
	defer t.mu.Unlock()
	sum := t.moved[n]
	t.moved[n] = moved{sum.rows + m.rows, sum.batches + m.batches, sum.quarantined + m.quarantined}
}

// fail notes why a rule does not get on; nil when it does.
func (t *tally) fail(n ruleName, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.errs[n] = err; err == nil {
		delete(t.errs, n)
	}
}

func (t *tally) failed(n ruleName) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.errs[n] != nil
}

// Report is what moved, one line a rule in order of direction and table.
type Report []Line

// Line is one rule's part of a Report.
type Line struct {
	Table       string
	Type        string // upload or download
	Rows        int64  // acknowledged by the centre, or applied at the point
	Batches     int64  // uploads, or pages
	Quarantined int64  // of the rows, and of those that could not be sent
	Err         error  // why the rule does not get on, or did not come to its end; nil when all is well
}

// report has a line for each rule of the book and for whatever else moved or failed.
func (t *tally) report(b *book) Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := make(map[ruleName]Line)
	add := func(n ruleName) {
		m := t.moved[n]
		lines[n] = Line{n.table, n.direction, m.rows, m.batches, m.quarantined, cmp.Or(t.errs[n], b.find(n).broken)}
	}
	for _, n := range b.names() {
		add(n)
	}
	for n := range t.moved {
		add(n)
	}
	for n := range t.errs {
		add(n)
	}
	return slices.SortedFunc(maps.Values(lines), func(a, b Line) int {
		return cmp.Or(cmp.Compare(b.Type, a.Type), cmp.Compare(a.Table, b.Table))
	})
}

// err joins what went wrong.
func (r Report) err() error {
	var errs []error
	for _, l := range r {
		if l.Err != nil {
			errs = append(errs, fmt.Errorf("%s %s: %w", l.Type, l.Table, l.Err))
		}
	}
	return errors.Join(errs...)
}

// Print writes the report as a table of text.
func (r Report) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TYPE\tTABLE\tROWS\tBATCHES\tQUARANTINED\tRESULT")
	for _, l := range r {
		result := "ok"
		if l.Err != nil {
			result = l.Err.Error()
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%s\n", l.Type, l.Table, l.Rows, l.Batches, l.Quarantined, result)
	}
	return t.Flush()
}
