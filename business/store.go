package business

import (
	"context"

	"syncgate/protocol"
	"syncgate/rule"
)

// Store runs plans. Its errors are those of this package: ErrUnavailable, ErrReadOnly, ErrDeadlock, ErrReused, ErrFile,
// *SQLError, *RowError.
type Store interface {
	// Apply runs each upload once, as the ledger sees it, and may run them in one transaction. Outcomes stand in the
	// order of the uploads; what has no Err is committed.
	Apply(ctx context.Context, uploads []*Upload) []Outcome
	// Read streams what p's upside statements give, page by page, into sink. An error of sink ends it and is returned;
	// only ErrEnough means that the row was taken and the rest is left for another time (Page.More).
	Read(ctx context.Context, p *rule.Plan, e rule.Env, sink Sink) (Page, error)
}

// Upload is one batch of rows for the ledger and the database.
type Upload struct {
	Point      string
	Epoch, Seq uint64   // the request's id: the ledger's key
	Hash       [32]byte // of what the request asks for
	Confirmed  uint64   // the ledger may forget this epoch's requests up to here
	Plan       *rule.Plan
	Rows       rule.Rows // without Columns: in the order of Plan.Fields
	Env        rule.Env
}

// Outcome is what became of an Upload.
type Outcome struct {
	Applied     uint64
	ByOp        map[string]uint64
	Quarantined []Quarantined
	Duplicate   bool // the ledger had it: these are the figures of the first time
	Err         error
}

// Quarantined is a row that no operation took.
type Quarantined struct {
	Row  int // from 0
	Code int // MySQL's error number; its words stay at the centre, in sync_quarantine
}

// Sink takes the rows of a Read. Values are only valid during the call.
type Sink interface {
	Begin(statement int, columns []protocol.Column) error
	Row(values []any) error
}

// Page is where a Read ended.
type Page struct {
	State []rule.StateItem // to be carried into the next request
	More  bool             // rows are left
	Rows  uint64
}
