package agent

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"text/tabwriter"
)

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

// progress is what moved since the agent was made.
type progress struct {
	mu    sync.Mutex
	lines map[ruleName]Line
}

func (t *progress) add(n ruleName, rows, batches, quarantined int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.lines[n]
	l.Rows, l.Batches, l.Quarantined = l.Rows+int64(rows), l.Batches+int64(batches), l.Quarantined+int64(quarantined)
	t.lines[n] = l
}

// fail notes why a rule does not get on; nil when it does.
func (t *progress) fail(n ruleName, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.lines[n]
	l.Err = err
	t.lines[n] = l
}

func (t *progress) failed(n ruleName) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lines[n].Err != nil
}

// report has a line for each rule of the book and for whatever else moved or failed.
func (t *progress) report(b *book) Report {
	t.mu.Lock()
	lines := maps.Clone(t.lines)
	t.mu.Unlock()
	for _, n := range b.names() {
		l := lines[n]
		l.Err = cmp.Or(l.Err, b.find(n).broken)
		lines[n] = l
	}
	r := Report{}
	for n, l := range lines {
		l.Type, l.Table = n.direction, n.table
		r = append(r, l)
	}
	slices.SortFunc(r, func(a, b Line) int { return cmp.Or(cmp.Compare(b.Type, a.Type), cmp.Compare(a.Table, b.Table)) })
	return r
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
