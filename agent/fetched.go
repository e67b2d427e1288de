package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/store"
)

// ruleColumns are the columns that sync_agent_rule has of sync_control. Only these are
// taken from a RULES reply: no name of a column ever comes from the wire into SQL.
var ruleColumns = [...]string{
	"id", "sync_table", "sync_type", "sync_user", "sync_point_no", "sync_field", "sync_range", "sync_range_value",
	"sync_operation_type", "sync_sql", "sync_patch_field", "sync_patch_field_value",
	"sync_is_carry_state", "sync_is_use_state_carry_data", "sync_is_update_state", "sync_is_update_time",
	"enabled", "note", "updated_at", "updated_by",
}

// fetchedRules reads what the centre last gave to this point.
func fetchedRules(ctx context.Context, db *store.Store) (list []rule.Row, err error) {
	columns := make([]string, len(ruleColumns))
	for i, c := range ruleColumns {
		columns[i] = "COALESCE(" + c + ", '')"
	}
	return list, inTx(ctx, db, func(tx *store.Tx) error {
		rows, err := tx.Query(ctx, `SELECT `+strings.Join(columns, ", ")+` FROM sync_agent_rule ORDER BY id`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var r rule.Row
			if err := rows.Scan(&r.ID, &r.Table, &r.Type, &r.User, &r.PointNo, &r.Field, &r.Range, &r.RangeValue,
				&r.OperationType, &r.SQL, &r.PatchField, &r.PatchFieldValue,
				&r.CarryState, &r.UseCarriedState, &r.UpdateState, &r.UpdateTime,
				&r.Enabled, &r.Note, &r.UpdatedAt, &r.UpdatedBy); err != nil {
				return err
			}
			list = append(list, r)
		}
		return rows.Err()
	})
}

// fetch asks for the point's rules and replaces the fetched ones, with their version, in
// one transaction.
func (b *book) fetch(ctx context.Context, l *link) error {
	m, err := l.ask(ctx, protocol.OpRules, nil)
	if err != nil {
		return err
	}
	reply, err := m.RulesReply()
	if err != nil {
		return err
	}
	insert := `INSERT INTO sync_agent_rule (` + strings.Join(ruleColumns[:], ", ") + `) VALUES (?` + strings.Repeat(", ?", len(ruleColumns)-1) + `)`
	err = inTx(ctx, b.opts.Store, func(tx *store.Tx) error {
		if _, err := tx.Exec(ctx, `DELETE FROM sync_agent_rule`); err != nil {
			return err
		}
		for _, row := range reply.Rules {
			values, err := ruleValues(row)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, insert, values...); err != nil {
				return err
			}
		}
		return saveState(ctx, tx, "rules", "*", []rule.StateItem{{Name: "version", Value: int64(reply.Version)}})
	})
	if err != nil {
		return fmt.Errorf("%w: store the fetched rules: %w", errLocal, err)
	}
	b.log.Info().Uint64("version", reply.Version).Int("rules", len(reply.Rules)).Msg("rules fetched")
	return b.reload(ctx, true)
}

// fetchedVersion is the version of the rules that were last fetched; ok is false when
// none ever were.
func fetchedVersion(ctx context.Context, db *store.Store) (version uint64, ok bool, err error) {
	err = inTx(ctx, db, func(tx *store.Tx) error {
		state, err := loadState(ctx, tx, "rules", "*")
		if err == nil && len(state) == 1 {
			var v int64
			v, ok = state[0].Value.(int64)
			version = uint64(v)
		}
		return err
	})
	return version, ok, err
}

// ruleValues puts a row of a RULES reply into the order of ruleColumns. A column that the
// centre does not send is NULL, except for the switches.
func ruleValues(row protocol.RuleRow) ([]any, error) {
	byName := make(map[string]any, len(row))
	for _, item := range row {
		byName[item.Name] = item.Value
	}
	values := make([]any, len(ruleColumns))
	for i, name := range ruleColumns {
		v := byName[name]
		if v == nil && (strings.HasPrefix(name, "sync_is_") || name == "enabled") {
			v = int64(0)
			if name == "enabled" {
				v = int64(1)
			}
		}
		if v == nil && i < 5 {
			return nil, errors.New("RULES: a row lacks " + name)
		}
		values[i] = v
	}
	return values, nil
}
