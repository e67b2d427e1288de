package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"syncgate/rule"
)

// A change table has one row for each key of its table that was inserted, updated or deleted: the key, the number of
// its last change, who made it and when. Three triggers write it in the application's own transaction, with the number
// 0. sequence gives committed changes their numbers, so that a number becomes visible after its COMMIT and in order.

const noSuchTable = 1146

// maxName is the longest name of a table or a trigger, characters.
const maxName = 64

// sequencedAtOnce is how many changes one transaction numbers; others who want a number wait for it.
const sequencedAtOnce = 10_000

// changeName is the name of an object that belongs to table: its own name with a prefix. A name that would be too long
// is cut and made unique by a hash.
func changeName(prefix, table string) string {
	name := prefix + table
	if len([]rune(name)) <= maxName {
		return name
	}
	sum := sha256.Sum256([]byte(table))
	suffix := "_" + hex.EncodeToString(sum[:4])
	return string([]rune(name)[:maxName-len(suffix)]) + suffix
}

// ChangeTable is what records the changes of one table: a change table and three triggers, in the table's database.
type ChangeTable struct {
	rule.Changes
	of      *rule.Table
	own     string // this database, quoted: where sync_sequence is
	key     []string
	columns []string // of the change table that depend on the table: each of key with its definition
}

// definitionSQL is a column as CREATE TABLE has it, without its name.
const definitionSQL = "CONCAT(column_type, " +
	"COALESCE(CONCAT(' CHARACTER SET ', character_set_name, ' COLLATE ', collation_name), ''))"

// ChangeTable describes the change table of a table, whether it is there or not. The error is a *ChangesError when the
// table has no key that a change table could have.
func (s *Store) ChangeTable(ctx context.Context, of *rule.Table) (*ChangeTable, error) {
	t := &ChangeTable{of: of}
	t.Name, t.Sequence = of.Beside(changeName("sync_change_", of.Name)), of.FullName()
	prefix := false
	err := s.each(ctx, `SELECT DATABASE(), COALESCE(k.column_name, ''), COALESCE(k.sub_part, 0) > 0,
		COALESCE(`+definitionSQL+`, '')
		FROM information_schema.tables t
		LEFT JOIN information_schema.statistics k ON k.table_schema = t.table_schema AND k.table_name = t.table_name
			AND k.index_name = 'PRIMARY'
		LEFT JOIN information_schema.columns c ON c.table_schema = t.table_schema AND c.table_name = t.table_name
			AND c.column_name = k.column_name
		WHERE t.table_schema = COALESCE(NULLIF(?, ''), DATABASE()) AND t.table_name = ? ORDER BY k.seq_in_index`,
		func(scan scanner) error {
			var column, definition string
			var part bool
			err := scan(&t.own, &column, &part, &definition)
			if prefix = prefix || part; column != "" {
				t.key, t.columns = append(t.key, column), append(t.columns, column+" "+definition)
			}
			return err
		}, of.Schema, of.Name)
	t.own = rule.Quote(t.own)
	reserved := slices.IndexFunc(t.key, func(k string) bool { return strings.HasPrefix(strings.ToLower(k), "sync_") })
	switch {
	case err != nil:
		return nil, public(err)
	case len(t.key) == 0:
		return nil, &ChangesError{t.Sequence, "the table has no primary key", "give it one"}
	case prefix:
		return nil, &ChangesError{t.Sequence, "the primary key has a column of which only the beginning counts",
			"make the primary key of whole columns"}
	case reserved >= 0:
		return nil, &ChangesError{t.Sequence,
			"the key's column " + t.key[reserved] + " has a name that the change table needs",
			"rename it"}
	}
	return t, nil
}

// ChangesError says why the changes of a table cannot be recorded or read.
type ChangesError struct{ Table, Reason, Fix string }

func (e *ChangesError) Error() string {
	return fmt.Sprintf("changes of %s: %s; %s", e.Table, e.Reason, e.Fix)
}

// keys is the key's columns, quoted, each after a prefix such as "NEW.".
func (t *ChangeTable) keys(prefix string) string {
	return rule.Join(t.key, ", ", func(k string) string { return prefix + rule.Quote(k) })
}

// createTable is the statement that makes the change table.
func (t *ChangeTable) createTable() string {
	text := "CREATE TABLE " + t.Name + " (\n"
	for i, k := range t.key {
		text += "    " + rule.Quote(k) + t.columns[i][len(k):] + " NOT NULL,\n"
	}
	return text + "    sync_seq BIGINT UNSIGNED NOT NULL DEFAULT 0,\n" +
		"    sync_origin VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,\n" +
		"    sync_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),\n" +
		"    PRIMARY KEY (" + t.keys("") + "),\n    KEY sync_seq (sync_seq)\n" +
		") ENGINE = InnoDB DEFAULT CHARSET = utf8mb4"
}

// changeTrigger is one of the three triggers of a table.
type changeTrigger struct {
	name, event, body string
}

// triggers are those that the table should have. A trigger that cannot write its change counts it in sync_sequence and
// lets the application's statement succeed; the count makes every reader load the table anew. What ends the whole
// transaction, such as a deadlock, no handler can catch, and the application is told of it.
func (t *ChangeTable) triggers() []changeTrigger {
	same := rule.Join(t.key, " AND ", func(k string) string {
		return "OLD." + rule.Quote(k) + " <=> NEW." + rule.Quote(k)
	})
	mark := func(row string) string {
		return "INSERT INTO " + t.Name + " (" + t.keys("") + ", sync_origin, sync_at)\n    VALUES (" + t.keys(row) +
			", @sync_origin, COALESCE(@sync_at, NOW(6)))\n    ON DUPLICATE KEY UPDATE " +
			"sync_seq = IF(@sync_known IS NULL OR sync_origin <=> @sync_origin OR " +
			"sync_seq BETWEEN 1 AND @sync_known,\n      0, 0 * (@sync_conflicts := @sync_conflicts + 1)), " +
			"sync_origin = VALUES(sync_origin), sync_at = VALUES(sync_at);\n"
	}
	body := func(statements string) string {
		return "BEGIN\n  DECLARE CONTINUE HANDLER FOR SQLEXCEPTION\n  BEGIN\n" +
			"    DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END;\n    UPDATE " + t.own +
			".`sync_sequence` SET missed = missed + 1 WHERE sync_table = " + rule.Constant(t.Sequence) +
			";\n  END;\n  " + statements + "END"
	}
	trigger := func(event, statements string) changeTrigger {
		name := changeName("sync_change_"+strings.ToLower(event[:1])+"_", t.of.Name)
		return changeTrigger{name, event, body(statements)}
	}
	return []changeTrigger{
		trigger("INSERT", mark("NEW.")),
		trigger("UPDATE", "IF NOT ("+same+") THEN\n    "+mark("OLD.")+"  END IF;\n  "+mark("NEW.")),
		trigger("DELETE", mark("OLD.")),
	}
}

// createTrigger is the statement that makes a trigger.
func (t *ChangeTable) createTrigger(g changeTrigger) string {
	return "CREATE TRIGGER " + t.of.Beside(g.name) + " AFTER " + g.event + " ON " + t.of.Beside(t.of.Name) +
		" FOR EACH ROW\n" + g.body
}

// SQL is every statement that makes the objects, in order, for a person to read.
func (t *ChangeTable) SQL() []string {
	all := []string{t.createTable()}
	for _, g := range t.triggers() {
		all = append(all, t.createTrigger(g))
	}
	return all
}

// Faults are what is missing or is not as it should be, in words; none: changes are recorded.
func (s *Store) Faults(ctx context.Context, t *ChangeTable) (faults []string, err error) {
	columns, err := s.changeColumns(ctx, t)
	switch {
	case err != nil:
		return nil, err
	case len(columns) == 0:
		faults = append(faults, "there is no change table "+t.Name)
	case !slices.EqualFunc(columns, t.columns, strings.EqualFold):
		faults = append(faults, "the change table "+t.Name+" has another key than the table")
	}
	const numbered = " in sync_sequence"
	there := map[string]string{} // a trigger's name: its body
	err = s.each(ctx, `SELECT trigger_name, action_statement FROM information_schema.triggers
		WHERE event_object_schema = COALESCE(NULLIF(?, ''), DATABASE()) AND event_object_table = ?
		UNION ALL SELECT '`+numbered+`', '' FROM sync_sequence WHERE sync_table = ?`,
		func(scan scanner) error {
			var name, body string
			err := scan(&name, &body)
			there[name] = body
			return err
		}, t.of.Schema, t.of.Name, t.Sequence)
	if err != nil {
		return nil, public(err)
	}
	for _, g := range t.triggers() {
		switch body, ok := there[g.name]; {
		case !ok:
			faults = append(faults, "there is no trigger "+t.of.Beside(g.name))
		case body != g.body:
			faults = append(faults, "the trigger "+t.of.Beside(g.name)+" is not the one that syncgate makes")
		}
	}
	if _, ok := there[numbered]; !ok {
		faults = append(faults, "sync_sequence has no row for the table")
	}
	return faults, nil
}

func (s *Store) changeColumns(ctx context.Context, t *ChangeTable) (columns []string, err error) {
	err = s.each(ctx, `SELECT CONCAT(column_name, ' ', `+definitionSQL+`)
		FROM information_schema.columns WHERE table_schema = COALESCE(NULLIF(?, ''), DATABASE()) AND table_name = ?
		AND column_name NOT IN ('sync_seq', 'sync_origin', 'sync_at') ORDER BY ordinal_position`,
		func(scan scanner) error {
			columns = append(columns, "")
			return scan(&columns[len(columns)-1])
		}, t.of.Schema, changeName("sync_change_", t.of.Name))
	return columns, public(err)
}

// InitChanges makes what Faults finds missing. Changes that were made while something was missing are not known, so
// every reader loads the table anew. Each statement of it commits by itself; it may be called again after an error.
func (s *Store) InitChanges(ctx context.Context, t *ChangeTable) error {
	faults, err := s.Faults(ctx, t)
	if err != nil || len(faults) == 0 {
		return err
	}
	columns, err := s.changeColumns(ctx, t)
	if err != nil {
		return err
	}
	var statements []string
	for _, g := range t.triggers() {
		statements = append(statements, "DROP TRIGGER IF EXISTS "+t.of.Beside(g.name))
	}
	if !slices.EqualFunc(columns, t.columns, strings.EqualFold) {
		statements = append(statements, "DROP TABLE IF EXISTS "+t.Name, t.createTable())
	} else { // no origin says any more where a row's last change came from
		statements = append(statements, "UPDATE "+t.Name+" SET sync_origin = NULL")
	}
	for _, g := range t.triggers() {
		statements = append(statements, t.createTrigger(g))
	}
	// Last, so that a reader that begins anew reads the table when the triggers are there.
	statements = append(statements, "INSERT INTO sync_sequence (sync_table) VALUES ("+rule.Constant(t.Sequence)+
		") ON DUPLICATE KEY UPDATE next_seq = next_seq + 1, complete_from = next_seq - 1, missed = 0")
	// None of them waits for longer than lockWait for the table's metadata lock: who comes later waits behind it.
	return public(s.withConn(ctx, func(c *conn) error {
		for _, q := range statements {
			if err := c.text(ctx, q); err != nil {
				return &statementError{sql: q, err: err}
			}
		}
		return nil
	}))
}

// RecordChanges makes what records the changes of a table.
func (s *Store) RecordChanges(ctx context.Context, table *rule.Table) error {
	t, err := s.ChangeTable(ctx, table)
	if err != nil {
		return err
	}
	return s.InitChanges(ctx, t)
}

// position is where the changes of a table stand.
type position struct {
	upTo         uint64 // the highest number given; every change up to it is visible
	completeFrom uint64 // a reader that stands below it has to load the table anew
	more         bool   // committed changes are left that have no number yet
}

// sequence gives committed changes of a table their numbers, in one order for everybody, and returns where they
// stand. Changes of transactions that are still open are passed over, and numbered when they are committed.
func sequence(ctx context.Context, c *conn, p *rule.Plan) (position, error) {
	var at position
	keys, t := rule.QuoteAll(p.Key), p.Recorded
	var missed, waiting uint64
	look := func(v []any) error {
		at.upTo, at.completeFrom, missed, waiting = asUint(v[0])-1, asUint(v[1]), asUint(v[2]), asUint(v[3])
		return nil
	}
	q := "SELECT next_seq, complete_from, missed, EXISTS (SELECT 1 FROM " + t.Name +
		" WHERE sync_seq = 0) FROM sync_sequence WHERE sync_table = ?"
	if err := c.ask(ctx, q, look, t.Sequence); err != nil || waiting == 0 && missed == 0 {
		return at, err
	}
	before := at.upTo
	err := c.inTx(ctx, func() error {
		lock := "SELECT next_seq - 1, missed INTO @sync_seq, @sync_missed FROM sync_sequence " +
			"WHERE sync_table = " + rule.Constant(t.Sequence) + " FOR UPDATE"
		number := fmt.Sprintf("INSERT INTO %s (%s, sync_seq, sync_at) "+
			"SELECT %s, @sync_seq := @sync_seq + 1, sync_at FROM %s "+
			"WHERE sync_seq = 0 LIMIT %d FOR UPDATE SKIP LOCKED ON DUPLICATE KEY UPDATE sync_seq = VALUES(sync_seq)",
			t.Name, keys, keys, t.Name, sequencedAtOnce)
		keep := "UPDATE sync_sequence SET next_seq = @sync_seq + 1 + (@sync_missed > 0), " +
			"complete_from = IF(@sync_missed > 0, @sync_seq + 1, complete_from), missed = missed - @sync_missed " +
			"WHERE sync_table = " + rule.Constant(t.Sequence)
		for _, q := range []string{lock, number, keep} {
			if err := c.text(ctx, q); err != nil {
				return &statementError{sql: q, err: err}
			}
		}
		return nil
	})
	if err != nil {
		return at, err
	}
	err = c.ask(ctx, q, look, t.Sequence)
	at.more = waiting > 0 && at.upTo-before >= sequencedAtOnce // else transactions that are still open hold the rest
	return at, err
}

// setOrigin tells the triggers of change tables where the changes that follow come from, and what the other side has
// seen of the changes here.
func (c *conn) setOrigin(ctx context.Context, u *Upload) error {
	origin, known := "", any(nil)
	if u.Plan.Recorded != nil {
		origin = u.Env.Origin
		if u.Env.Known != nil && u.Plan.Present != nil {
			known = *u.Env.Known
		}
	}
	if origin == c.origin && known == nil && !c.known {
		return nil
	}
	_, err := c.do(ctx, "SET @sync_origin = NULLIF(?, ''), @sync_known = ?, @sync_conflicts = 0", origin, known)
	if err == nil {
		c.origin, c.known = origin, known != nil
	}
	return err
}

// lookForChanges fills t.Changes where the table has a row in sync_sequence.
func (s *Store) lookForChanges(ctx context.Context, t *rule.Table) error {
	known := false
	err := s.each(ctx, "SELECT 1 FROM sync_sequence WHERE sync_table = ?", func(scanner) error {
		known = true
		return nil
	}, t.FullName())
	if isNumber(err, noSuchTable) {
		return nil // the schema is older than this program
	}
	if err != nil || !known {
		return public(err)
	}
	ct, err := s.ChangeTable(ctx, t)
	if refused := (*ChangesError)(nil); errors.As(err, &refused) {
		t.Changes = &rule.Changes{Faults: []string{refused.Reason}}
		return nil
	}
	if err != nil {
		return err
	}
	t.Changes = &ct.Changes
	t.Changes.Faults, err = s.Faults(ctx, ct)
	return err
}
