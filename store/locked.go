package store

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"syncgate/rule"
)

// holders are the queries for the sessions that hold a table. Which one a server answers depends on its plugins.
var holders = []string{
	`SELECT DISTINCT p.id, p.user, p.command, p.time FROM information_schema.metadata_lock_info m
		JOIN information_schema.processlist p ON p.id = m.thread_id
		WHERE m.table_schema = COALESCE(NULLIF(?, ''), DATABASE()) AND m.table_name = ?
			AND p.state NOT LIKE 'Waiting for %'`,
	`SELECT DISTINCT p.id, p.user, p.command, p.time FROM performance_schema.metadata_locks m
		JOIN performance_schema.threads t ON t.thread_id = m.owner_thread_id
		JOIN information_schema.processlist p ON p.id = t.processlist_id
		WHERE m.object_schema = COALESCE(NULLIF(?, ''), DATABASE()) AND m.object_name = ?
			AND m.lock_status = 'GRANTED'`,
}

// lockedError says who holds a table that a statement has waited for in vain.
type lockedError struct {
	error
	who string
}

func (e *lockedError) Error() string { return e.error.Error() + "; " + e.who }
func (e *lockedError) Unwrap() error { return e.error }

// explainLock adds the holders of a plan's table to an error after a wait for a lock.
func (s *Store) explainLock(ctx context.Context, p *rule.Plan, err error) error {
	if !errors.Is(err, ErrRetry) || causeOf(err) != "lock_wait" {
		return err
	}
	schema, table := splitName(p.Row.Table)
	for _, q := range holders {
		var who []string
		failed := s.each(ctx, q, func(scan scanner) error {
			var id, seconds int64
			var user, command string
			err := scan(&id, &user, &command, &seconds)
			who = append(who, fmt.Sprintf("connection %d (%s, %s)", id, user, strings.ToLower(command)))
			return err
		}, schema, table)
		if failed == nil && len(who) > 0 {
			return &lockedError{err, "the table " + p.Row.Table + " is held by " + strings.Join(who, ", ")}
		}
	}
	where := "a session holds the table " + p.Row.Table + " by LOCK TABLES, an open transaction or ALTER TABLE; " +
		"INSTALL SONAME 'metadata_lock_info' makes the database show which"
	if held, failed := s.Held(ctx); failed == nil && held != "" {
		where = "perhaps the table " + p.Row.Table + " is held by another session: " + held
	}
	return &lockedError{err, where}
}
