package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/store"
)

// ruleColumns are the columns that sync_agent_rule has of sync_control. Only these are
// taken from a RULES reply: no name of a column ever comes from the wire into SQL.
var ruleColumns = []string{
	"id", "sync_table", "sync_type", "sync_user", "sync_point_no", "sync_field", "sync_range", "sync_range_value",
	"sync_operation_type", "sync_sql", "sync_patch_field", "sync_patch_field_value",
	"sync_is_carry_state", "sync_is_use_state_carry_data", "sync_is_update_state", "sync_is_update_time",
	"enabled", "note", "updated_at", "updated_by",
}

// loadFetched reads what the centre last gave to this point.
func loadFetched(ctx context.Context, db *store.Store) (list []rule.Row, err error) {
	query := `SELECT COALESCE(` + strings.Join(ruleColumns, `, ''), COALESCE(`) + `, '') FROM sync_agent_rule ORDER BY id`
	var r rule.Row
	into := []any{&r.ID, &r.Table, &r.Type, &r.User, &r.PointNo, &r.Field, &r.Range, &r.RangeValue,
		&r.OperationType, &r.SQL, &r.PatchField, &r.PatchFieldValue,
		&r.CarryState, &r.UseCarriedState, &r.UpdateState, &r.UpdateTime,
		&r.Enabled, &r.Note, &r.UpdatedAt, &r.UpdatedBy}
	err = inTx(ctx, db, func(tx *store.Tx) error {
		return each(ctx, tx, query, nil, into, func() { list = append(list, r) })
	})
	return list, err
}

// refresh is the turn of the lane that follows the centre's rules: it fetches them if
// their version is not that of the stored ones.
func (a *Agent) refresh(ctx context.Context) (time.Duration, error) {
	var ping *protocol.PingReply
	err := a.link.do(ctx, &protocol.Message{Op: protocol.OpPing}, func(m *protocol.Message) (err error) {
		ping, err = m.PingReply()
		return err
	})
	if err != nil {
		return 0, err
	}
	stored, err := loadState(ctx, a.opts.Store, fetched)
	if err != nil || len(stored) == 1 && stored[0].Value == int64(ping.RulesVersion) {
		return a.opts.FullInterval, err
	}
	var reply *protocol.RulesReply
	err = a.link.do(ctx, &protocol.Message{Op: protocol.OpRules}, func(m *protocol.Message) (err error) {
		reply, err = m.RulesReply()
		return err
	})
	if err == nil {
		err = inTx(ctx, a.opts.Store, func(tx *store.Tx) error { return saveFetched(ctx, tx, reply) })
	}
	if err != nil {
		return 0, fmt.Errorf("fetch the rules: %w", err)
	}
	a.opts.Log.Info().Uint64("version", reply.Version).Int("rules", len(reply.Rules)).Msg("rules fetched")
	err = a.book.reload(ctx, true)
	a.book.changed.raise() // what the centre has refused it may take now
	return a.opts.FullInterval, err
}

// saveFetched replaces the fetched rules and their version within tx. A column that the
// centre does not send has its default.
func saveFetched(ctx context.Context, tx *store.Tx, reply *protocol.RulesReply) error {
	if _, err := tx.Exec(ctx, `DELETE FROM sync_agent_rule`); err != nil {
		return err
	}
	for _, row := range reply.Rules {
		var columns []string
		var values []any
		for _, item := range row {
			if item.Value != nil && slices.Contains(ruleColumns, item.Name) {
				columns, values = append(columns, item.Name), append(values, item.Value)
			}
		}
		places := strings.TrimSuffix(strings.Repeat("?, ", len(values)), ", ")
		_, err := tx.Exec(ctx, `INSERT INTO sync_agent_rule (`+strings.Join(columns, ", ")+`) VALUES (`+places+`)`, values...)
		if err != nil {
			return err
		}
	}
	return saveState(ctx, tx, fetched, []protocol.StateItem{{Name: "version", Value: int64(reply.Version)}})
}
