package agent

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

// tableLocks are the locks of the tables. No row of a table is applied while an upload of it is under way, and no batch
// is read while a page is applied. Each side then knows exactly what the other has seen. That is how a row that both
// changed is found.
type tableLocks struct {
	by sync.Map // by table: a *tableLock
}

type tableLock struct {
	slot   chan struct{}
	wanted atomic.Int32 // how many wait for it
	exact  bool         // what the upload has saved is what the centre has applied; changes under the lock
}

func (t *tableLocks) of(table string) *tableLock {
	lock, _ := t.by.LoadOrStore(table, &tableLock{slot: make(chan struct{}, 1)})
	return lock.(*tableLock)
}

func (t *tableLock) lock(ctx context.Context) error {
	t.wanted.Add(1)
	defer t.wanted.Add(-1)
	select {
	case t.slot <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t *tableLock) unlock() { <-t.slot }

// errLoading means that the other side's rows of a table are loaded first.
var errLoading = errors.New("the table's rows are first loaded from the side whose version wins a conflict")

// errUnsettled means that it is not known which of its own changes of a table this point has sent. The loop that sends
// them logs why.
var errUnsettled = errors.New("it is not known yet which changes of the table the centre has")

// other is the rule of the other direction.
func (l *loop) other() ruleName {
	if l.name.direction == rule.Download {
		return ruleName{rule.Upload, l.name.table}
	}
	return ruleName{rule.Download, l.name.table}
}

// isTurn reports whether err means that the other direction of a table goes first.
func isTurn(err error) bool { return errors.Is(err, errLoading) || errors.Is(err, errUnsettled) }

// opposite is the number of the last change that the rule of the other direction has moved, where the table goes both
// ways with option changes, else nil. errLoading: that direction goes first, and has not loaded the table yet.
// errUnsettled: after a crash the centre may have more than was saved here, and a change that it has must not win
// again.
func (l *loop) opposite(ctx context.Context, plan *rule.Plan) (*uint64, error) {
	name := l.other()
	other, _ := l.rules.plan(name)
	if other == nil || l.name.direction == rule.Upload && (!plan.Changes || other.Present == nil) ||
		l.name.direction == rule.Download && (plan.Present == nil || !other.Changes) {
		return nil, nil
	}
	if l.name.direction == rule.Download && plan.Conflict != rule.CentreWins && !l.tables.of(l.name.table).exact {
		return nil, errUnsettled
	}
	state, err := loadState(ctx, l.opts.Store, name)
	if err != nil {
		return nil, err
	}
	var seq uint64
	if at := indexOf(state, rowset.ChangeSeq); at >= 0 && indexOf(state, rule.LoadItem(0)) < 0 {
		seq = number(state[at].Value)
	} else if first := plan.Conflict != rule.PointWins; first == (name.direction == rule.Download) {
		return nil, errLoading
	}
	return &seq, nil
}
