package agent

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/store"
)

// A rule's state is what its next page starts from. It is kept under direction and table,
// so that it outlives an edit of the rule, encoded as the request that would carry it:
// the wire already says how a SQL value is written without loss.

func stateKey(direction, table string) string { return direction + ":" + table }

// loadState is the state of a rule; none when there is none yet.
func loadState(ctx context.Context, tx *store.Tx, direction, table string) ([]rule.StateItem, error) {
	rows, err := tx.Query(ctx, `SELECT state FROM sync_agent_state WHERE rule_key = ?`, stateKey(direction, table))
	if err != nil {
		return nil, err
	}
	var text []byte
	if err := one(rows, &text); errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	m := protocol.Message{Op: protocol.OpDownload, Payload: text}
	request, err := m.DownloadRequest()
	if err != nil {
		return nil, fmt.Errorf("sync_agent_state of %s %s: %w", direction, table, err)
	}
	items := make([]rule.StateItem, len(request.State))
	for i, s := range request.State {
		items[i] = rule.StateItem(s)
	}
	return items, nil
}

// saveState replaces the state of a rule within tx.
func saveState(ctx context.Context, tx *store.Tx, direction, table string, state []rule.StateItem) error {
	request := &protocol.DownloadRequest{Table: table}
	for _, s := range state {
		request.State = append(request.State, protocol.StateItem(s))
	}
	text, err := protocol.AppendPayload(nil, request)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `REPLACE INTO sync_agent_state (rule_key, state) VALUES (?, ?)`, stateKey(direction, table), text)
	return err
}
