package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"syncgate/internal/rowset"
	"syncgate/rule"
	"syncgate/store"
)

// A column can be added at one end long before it is at the other, and the values that are sent meanwhile are left out
// there. So the agent remembers which columns travel. When both ends have got one more, the table is read again from
// its beginning: no value is lost, whatever was altered first, and rows that got a default by the ALTER itself have it
// at the other end too.

// travelling are the columns of a rule's last rows.
type travelling struct {
	known   []string // both ends have them
	unknown []string // the receiving end does not
	again   int      // above 0: the table is to be read from its beginning; in a change: what is added
}

// columns keeps what travels, in memory and in sync_agent_columns.
type columns struct {
	mu sync.Mutex
	of map[string]travelling // by ruleName.key
}

// open reads sync_agent_columns.
func (c *columns) open(ctx context.Context, db *store.Store) error {
	c.of = make(map[string]travelling)
	return db.InTx(ctx, func(tx *store.Tx) error {
		return tx.Each(ctx, `SELECT rule_key, known, unknown, read_again FROM sync_agent_columns`,
			func(scan func(...any) error) error {
				var key, known, unknown string
				var t travelling
				if err := scan(&key, &known, &unknown, &t.again); err != nil {
					return err
				}
				c.of[key] = t
				for text, into := range map[string]*[]string{known: &t.known, unknown: &t.unknown} {
					if err := json.Unmarshal([]byte(text), into); err != nil {
						return fmt.Errorf("sync_agent_columns of %s: %w", key, err)
					}
				}
				c.of[key] = t
				return nil
			})
	})
}

// wider is the change for a rule that reads columns which have never travelled; nil when it reads none.
func (c *columns) wider(n ruleName, fields []string) *travelling {
	c.mu.Lock()
	defer c.mu.Unlock()
	last, seen := c.of[n.key()]
	grown := without(without(fields, last.known), last.unknown)
	if !seen || len(grown) == 0 {
		return nil
	}
	return &travelling{known: slices.Concat(last.known, grown), unknown: last.unknown, again: 1}
}

// met is what travels after rows with the columns sent were applied and the values of unknown were left out. now are
// the columns that the next rows will have. The change is nil when that is nothing new. grown are the columns that have
// begun to travel, and found those of them whose values were left out before.
func (c *columns) met(n ruleName, now, sent, unknown []string) (change *travelling, grown, found []string) {
	c.mu.Lock()
	last, seen := c.of[n.key()]
	c.mu.Unlock()
	now = without(now, []string{rowset.Deleted, rowset.ChangedAt})
	older := without(last.unknown, sent) // an older batch says nothing about columns that it lacks
	change = &travelling{unknown: without(now, without(without(now, unknown), older))}
	change.known = without(without(now, change.unknown), without(without(now, sent), last.known))
	if seen && slices.Equal(change.known, last.known) && slices.Equal(change.unknown, last.unknown) {
		return nil, nil, nil
	}
	if seen {
		grown = without(change.known, last.known)
	}
	return change, grown, without(grown, without(grown, last.unknown))
}

// without is names without others.
func without(names, others []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(n string) bool {
		return slices.ContainsFunc(others, func(o string) bool { return strings.EqualFold(n, o) })
	})
}

// save writes a change within tx. The caller calls add after the commit.
func (c *columns) save(ctx context.Context, tx *store.Tx, n ruleName, change *travelling) error {
	known, err := json.Marshal(change.known)
	if err != nil {
		return err
	}
	unknown, err := json.Marshal(change.unknown)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO sync_agent_columns (rule_key, known, unknown, read_again) VALUES (?, ?, ?, ?)
		ON DUPLICATE KEY UPDATE known = VALUES(known), unknown = VALUES(unknown),
		read_again = read_again + VALUES(read_again)`, n.key(), string(known), string(unknown), change.again)
	return err
}

// add is the change in memory.
func (c *columns) add(n ruleName, change *travelling) {
	c.mu.Lock()
	defer c.mu.Unlock()
	change.again += c.of[n.key()].again
	c.of[n.key()] = *change
}

// begun takes away, within tx, what again was when the reading from the beginning began. The caller calls forget after
// the commit.
func (c *columns) begun(ctx context.Context, tx *store.Tx, n ruleName, again int) error {
	_, err := tx.Exec(ctx, `UPDATE sync_agent_columns SET read_again = read_again - ? WHERE rule_key = ?`,
		again, n.key())
	return err
}

// forget is begun in memory.
func (c *columns) forget(n ruleName, again int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, ok := c.of[n.key()]; ok {
		t.again -= again
		c.of[n.key()] = t
	}
}

// again is above 0 when the table is to be read from its beginning.
func (c *columns) again(n ruleName) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.of[n.key()].again
}

// beginning is the state to read a whole table again from. The changes that the state has come to are not skipped: a
// deleted row is nowhere else.
func beginning(state []rowset.StateItem) []rowset.StateItem {
	at := indexOf(state, rowset.ChangeSeq)
	if at < 0 {
		return nil
	}
	return []rowset.StateItem{state[at], {Name: rule.LoadItem(0)}}
}
