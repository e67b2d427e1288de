package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"syncgate/internal/rowset"
	"syncgate/store"
)

// counted keeps the sums of all events.
type counted struct {
	mu   sync.Mutex
	sums map[*store.Metric]map[string]uint64 // by label
}

func (c *counted) add(e store.Event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sums == nil {
		c.sums = map[*store.Metric]map[string]uint64{}
	}
	if c.sums[e.Metric] == nil {
		c.sums[e.Metric] = map[string]uint64{}
	}
	c.sums[e.Metric][e.Label] += e.N
}

// WriteMetrics writes the agent's metrics in the text format of Prometheus.
func (a *Agent) WriteMetrics(ctx context.Context, w io.Writer) error {
	state, err := a.state(ctx)
	database := 1.0
	if err != nil {
		database = 0
	}
	m := &exposition{w: w}
	m.family("syncgate_agent_build_info", "1, with the version.", false)
	m.sample(1, "version", a.opts.Software)
	one := func(name, help string, value float64) {
		m.family("syncgate_agent_"+name, help, false)
		m.sample(value)
	}
	up := 0.0
	if a.link.online.Load() {
		up = 1
	}
	a.outbox.mu.Lock()
	batches, bytes := a.outbox.batches, a.outbox.bytes
	a.outbox.mu.Unlock()
	one("connected", "1 while the agent is connected to a server.", up)
	one("database_up", "1 while the point's database answers.", database)
	one("start_time_seconds", "When the agent was started, Unix time.", float64(a.started.Unix()))
	one("disk_free_bytes", "Bytes free where the agent keeps its data; 0: not known.", float64(state.DiskFree))
	one("memory_bytes", "Bytes of memory that the agent has resident.", float64(state.Memory))
	one("outbox_batches", "Batches that wait for their acknowledgement.", float64(batches))
	one("outbox_batches_limit", "At so many batches reading pauses.", float64(a.opts.OutboxBatches))
	one("outbox_bytes", "Bytes of the batches that wait.", float64(bytes))
	one("outbox_bytes_limit", "At so many bytes reading pauses.", float64(a.opts.OutboxBytes))
	for _, def := range rowset.RuleMetrics {
		m.family("syncgate_agent_"+def.Name, def.Help, def.Counter)
		for i := range state.Rules {
			r := &state.Rules[i]
			m.sample(def.Value(r), "table", r.Table, "direction", r.Direction)
		}
	}
	a.counted.mu.Lock()
	defer a.counted.mu.Unlock()
	for _, metric := range slices.SortedFunc(maps.Keys(a.counted.sums), func(x, y *store.Metric) int {
		return strings.Compare(x.Name, y.Name)
	}) {
		m.family("syncgate_"+metric.Name, metric.Help, true)
		sums := a.counted.sums[metric]
		for _, label := range slices.Sorted(maps.Keys(sums)) {
			m.sample(float64(sums[label]), metric.Label, label)
		}
	}
	return m.err
}

// exposition writes families of samples.
type exposition struct {
	w    io.Writer
	name string
	err  error
}

func (m *exposition) print(format string, args ...any) {
	if m.err == nil {
		_, m.err = fmt.Fprintf(m.w, format, args...)
	}
}

func (m *exposition) family(name, help string, counter bool) {
	m.name = name
	kind := "gauge"
	if counter {
		kind = "counter"
	}
	m.print("# HELP %s %s\n# TYPE %s %s\n", name, strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(help), name, kind)
}

var escape = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

// sample writes a value; labels are names and values.
func (m *exposition) sample(value float64, labels ...string) {
	var list []string
	for i := 0; i+1 < len(labels); i += 2 {
		list = append(list, fmt.Sprintf(`%s="%s"`, labels[i], escape.Replace(labels[i+1])))
	}
	set := ""
	if len(list) > 0 {
		set = "{" + strings.Join(list, ",") + "}"
	}
	m.print("%s%s %v\n", m.name, set, value)
}

// stuckAfter is how long after its time a report may come before the agent counts as stuck. Nothing that it waits for
// takes as long: a report has reportTimeout.
const stuckAfter = time.Minute

// CheckLive returns an error while the agent makes no progress, which only a restart can mend. It asks no database.
func (a *Agent) CheckLive() error {
	if late := a.opts.Clock().Sub(time.Unix(0, a.nextReport.Load())); a.nextReport.Load() > 0 && late > stuckAfter {
		return fmt.Errorf("the agent has made no progress for %s", late.Round(time.Second))
	}
	return nil
}

// CheckReady returns why rows do not move now: the database does not answer, the rules could not be read for some time,
// or there is no connection to a server.
func (a *Agent) CheckReady(ctx context.Context) error {
	var all []error
	if err := a.opts.Store.Probe(ctx); err != nil {
		all = append(all, fmt.Errorf("database: %w", err))
	}
	if read := a.rules.local.LastRead(); a.opts.Clock().Sub(read) > 10*a.opts.RulesEvery+reportTimeout {
		all = append(all, fmt.Errorf("rules not read since %s", read.UTC().Format(time.RFC3339)))
	}
	if !a.link.online.Load() {
		all = append(all, errors.New("not connected to a server"))
	}
	return errors.Join(all...)
}
