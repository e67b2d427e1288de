package agent

import (
	"cmp"
	"fmt"
	"io"
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

func (t *tally) add(direction, table string, m moved) {
	t.mu.Lock()
	defer t.mu.Unlock()
	sum := t.moved[ruleName{direction, table}]
	sum.rows += m.rows
	sum.batches += m.batches
	sum.quarantined += m.quarantined
	t.moved[ruleName{direction, table}] = sum
}

// fail notes why a rule does not get on; nil when it does.
func (t *tally) fail(n ruleName, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		delete(t.errs, n)
	} else {
		t.errs[n] = err
	}
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

func (t *tally) report(rules []ruleName) Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	seen := make(map[ruleName]bool)
	var r Report
	line := func(n ruleName) {
		if !seen[n] {
			seen[n] = true
			m := t.moved[n]
			r = append(r, Line{n.table, n.direction, m.rows, m.batches, m.quarantined, t.errs[n]})
		}
	}
	for _, n := range rules {
		line(n)
	}
	for n := range t.moved {
		line(n)
	}
	for n := range t.errs {
		line(n)
	}
	slices.SortFunc(r, func(a, b Line) int { return cmp.Or(-cmp.Compare(a.Type, b.Type), cmp.Compare(a.Table, b.Table)) })
	return r
}

// WriteTo prints the report as a table of text.
func (r Report) WriteTo(w io.Writer) (int64, error) {
	count := &counter{w: w}
	t := tabwriter.NewWriter(count, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "TYPE\tTABLE\tROWS\tBATCHES\tQUARANTINED\tRESULT")
	for _, l := range r {
		result := "ok"
		if l.Err != nil {
			result = l.Err.Error()
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%s\n", l.Type, l.Table, l.Rows, l.Batches, l.Quarantined, result)
	}
	err := t.Flush()
	return count.n, err
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}
