package store

import "strconv"

// Metric is a counter that a store or an agent keeps.
type Metric struct {
	Name    string // as Prometheus writes it
	Label   string // of its series
	Help    string
	Failure string // the log line of an event with an error
}

// The metrics of a store.
var (
	rowsApplied = &Metric{Name: "rows_applied_total", Label: "operation",
		Help: "Rows that an operation took, by operation."}
	rowsQuarantined = &Metric{Name: "rows_quarantined_total", Label: "error",
		Help: "Rows put into sync_quarantine, by MySQL's error number; of a large upload the first 1,000 have one."}
	rowsLeftQuarantine = &Metric{Name: "quarantine_changes_total", Label: "change",
		Help: "Rows of sync_quarantine that were retried with success, superseded by a later version, " +
			"or that have waited for too long (expired)."}
	retryFailures = &Metric{Name: "quarantine_retry_failures_total", Label: "step",
		Failure: "waiting rows of sync_quarantine could not be tried again",
		Help:    "Rounds over the waiting rows of sync_quarantine that failed."}
	rowsRounded = &Metric{Name: "rows_rounded_total", Label: "table",
		Help: "Rows with a value that its column cut or rounded, under the option allow-rounding."}
	// Retries has the labels deadlock, lock_wait, connection, shared and other.
	Retries = &Metric{Name: "transaction_retries_total", Label: "cause",
		Help: "Transactions that ran again, by cause."}
	ledgerRows = &Metric{Name: "ledger_rows_total", Label: "action",
		Help: "Rows of the ledger that were inserted, found for a repeated request, or purged."}
	conflictsFound = &Metric{Name: "conflicts_total", Label: "settled",
		Help: "Rows that two sides changed at once, by the option that settled them."}
	boundHeld = &Metric{Name: "reads_held_total", Label: "by",
		Failure: "an open transaction holds back reading by time",
		Help:    "Statements and transactions that kept reading by time behind the clock for long."}
	clockSteps = &Metric{Name: "clock_steps_total", Label: "local", Failure: "the database's clock went back",
		Help: "Times that the database's clock, or its local time, went back."}
	rowsLate = &Metric{Name: "rows_late_total", Label: "table",
		Failure: "rows with times that had been read already are read now",
		Help:    "Rows that were committed with a time that had been read already."}
	purgeFailures = &Metric{Name: "purge_failures_total", Label: "of", Failure: "a purge failed",
		Help: "Purges that failed: of confirmed and unconfirmed requests of the ledger, and of changes."}
)

// Metrics lists what a store counts.
func Metrics() []*Metric {
	return []*Metric{rowsApplied, rowsQuarantined, conflictsFound, rowsLeftQuarantine, retryFailures, rowsRounded,
		Retries, ledgerRows, boundHeld, clockSteps, rowsLate, purgeFailures}
}

// Event is one change of a metric.
type Event struct {
	Metric *Metric
	Label  string
	N      uint64
	Err    error // of a failure that is returned to no caller
}

// Observer receives events. Any goroutine may call it, also within a transaction: it must not block.
type Observer func(Event)

// Observe sets the store's observer. Call it before Apply, Begin and Run.
func (s *Store) Observe(o Observer) { s.observer = o }

func (s *Store) count(m *Metric, label string, n uint64, err error) {
	if s.observer != nil && n > 0 {
		s.observer(Event{m, label, n, err})
	}
}

// countUpload counts the outcome of an upload.
func (s *Store) countUpload(o *Outcome) {
	switch {
	case o.Err != nil:
	case o.Duplicate:
		s.count(ledgerRows, "found", 1, nil)
	default:
		s.count(ledgerRows, "inserted", 1, nil)
		s.countRows(o)
	}
}

// countRows counts rows that are committed.
func (s *Store) countRows(o *Outcome) {
	for op, n := range o.ByOp {
		s.count(rowsApplied, op, n, nil)
	}
	for _, q := range o.Quarantined {
		s.count(rowsQuarantined, strconv.Itoa(q.Code), 1, nil)
	}
	s.count(rowsQuarantined, "untold", o.LeftOut, nil)
}

// causeOf names the error after which uploads run again.
func causeOf(err error) string {
	switch {
	case isNumber(err, 1213):
		return "deadlock"
	case isNumber(err, 1205, 3572):
		return "lock_wait"
	}
	switch kindOf(err) {
	case kindLost:
		return "connection"
	case kindNotFromDB, kindRow: // one upload of a shared transaction was refused or is in the ledger
		return "shared"
	}
	return "other"
}
