package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"syncgate/rule"
)

// Table reads the facts about a table of this database, or of another when name is db.table. ErrNoTable: it does not
// exist, or the account may not see it.
func (s *Store) Table(ctx context.Context, name string) (*rule.Table, error) {
	if !mayBeName(name) {
		return nil, fmt.Errorf("%w: %q", ErrNoTable, name)
	}
	t, err := s.table(ctx, "", name)
	if schema, table, qualified := strings.Cut(name, "."); qualified && errors.Is(err, ErrNoTable) {
		t, err = s.table(ctx, schema, table)
	}
	if err != nil {
		return nil, err
	}
	seen, err := s.SeesTransactions(ctx)
	if err != nil {
		return nil, err
	}
	t.Unseen = !seen
	return t, s.lookForChanges(ctx, t)
}

func (s *Store) table(ctx context.Context, schema, table string) (*rule.Table, error) {
	t := &rule.Table{Schema: schema}
	where := " WHERE table_schema = COALESCE(NULLIF(?, ''), DATABASE()) AND table_name = ? "
	// A view has no engine. PREPARE checks its tables.
	err := s.each(ctx, `SELECT table_name, COALESCE(engine, ''),
		engine IN (SELECT engine FROM information_schema.engines WHERE transactions <> 'YES')
		FROM information_schema.tables`+where, func(scan scanner) error {
		var keeps sql.NullBool
		err := scan(&t.Name, &t.Engine, &keeps)
		t.NoRollback = keeps.Bool && !s.o.AnyEngine
		return err
	}, schema, table)
	if err != nil {
		return nil, public(err)
	}
	if t.Name == "" {
		return nil, fmt.Errorf("%w: %s", ErrNoTable, table)
	}
	rowEnd := "" // of a table with system versioning; the server adds it to every unique key
	err = s.each(ctx, `SELECT column_name, LOWER(data_type), LOWER(column_type), is_nullable = 'YES', LOWER(extra),
		column_default IS NOT NULL OR is_nullable = 'YES', COALESCE(generation_expression, ''),
		COALESCE(collation_name, '')
		FROM information_schema.columns`+where+"ORDER BY ordinal_position", func(scan scanner) error {
		var c rule.Column
		var extra, expression string
		err := scan(&c.Name, &c.Type, &c.ColumnType, &c.Nullable, &extra, &c.HasDefault, &expression, &c.Collation)
		if c.Generated = expression != ""; expression == "ROW END" {
			rowEnd = c.Name
		}
		c.Auto = strings.Contains(extra, "auto_increment")
		c.OnUpdate = strings.Contains(extra, "on update")
		c.HasDefault = c.HasDefault || c.Auto || strings.Contains(extra, "default_generated")
		c.Invisible = strings.Contains(extra, "invisible")
		c.Unsigned = strings.Contains(c.ColumnType, "unsigned")
		c.Binary = binaryType(c.Type)
		t.Columns = append(t.Columns, c)
		return err
	}, schema, table)
	if err != nil {
		return nil, public(err)
	}
	if err := s.keys(ctx, t, rowEnd, where, schema, table); err != nil {
		return nil, public(err)
	}
	return t, public(s.references(ctx, t, schema, table))
}

// references reads the foreign keys of a table. It looks for those that refer to the table only where its keys make
// that matter, since the server opens every table of the database to find them.
func (s *Store) references(ctx context.Context, t *rule.Table, schema, table string) error {
	const of = ` FROM information_schema.referential_constraints
		WHERE constraint_schema = COALESCE(NULLIF(?, ''), DATABASE()) AND `
	err := s.each(ctx, `SELECT DISTINCT IF(unique_constraint_schema = DATABASE(), referenced_table_name,
		CONCAT(unique_constraint_schema, '.', referenced_table_name))`+of+"table_name = ?", func(scan scanner) error {
		t.Parents = append(t.Parents, "")
		return scan(&t.Parents[len(t.Parents)-1])
	}, schema, table)
	if err != nil || !slices.ContainsFunc(t.Keys, func(k rule.Key) bool { return k.Unique && !k.Primary }) {
		return err
	}
	return s.each(ctx, "SELECT 1"+of+"referenced_table_name = ? LIMIT 1", func(scanner) error {
		t.Referred = true
		return nil
	}, schema, table)
}

// SameColumns reports whether a table still has the columns that t says.
func (s *Store) SameColumns(ctx context.Context, t *rule.Table) (same bool, err error) {
	err = s.retry(ctx, func(c *conn) error {
		same, err = c.sameColumns(ctx, t)
		return err
	})
	return same, err
}

func (c *conn) sameColumns(ctx context.Context, t *rule.Table) (bool, error) {
	c.args = c.args[:0]
	rows, err := c.query(ctx, "SELECT * FROM "+t.Quoted()+" LIMIT 0")
	if kindOf(err) == kindSQL {
		code, _ := codeOf(err)
		return code != noSuchTable, nil // an account that may not read every column waits for the rule's next recheck
	}
	if err != nil {
		return false, err
	}
	return !t.Altered(rows.Columns()), rows.Close()
}

// splitName cuts a name into that of a database, which may be empty, and that of a table.
func splitName(name string) (schema, table string) {
	if schema, table, qualified := strings.Cut(name, "."); qualified {
		return schema, table
	}
	return "", name
}

// mayBeName reports whether MySQL allows a name. It allows no character beyond U+FFFF, and fails to compare one.
func mayBeName(name string) bool {
	return utf8.ValidString(name) && !strings.ContainsFunc(name, func(r rune) bool { return r > 0xffff || r == 0 })
}

func (s *Store) keys(ctx context.Context, t *rule.Table, rowEnd, where string, args ...any) error {
	return s.each(ctx, `SELECT index_name, non_unique, COALESCE(column_name, '')
		FROM information_schema.statistics`+where+`
		ORDER BY index_name <> 'PRIMARY', index_name, seq_in_index`, func(scan scanner) error {
		var name, column string
		var nonUnique bool
		if err := scan(&name, &nonUnique, &column); err != nil {
			return err
		}
		if n := len(t.Keys); n == 0 || t.Keys[n-1].Name != name {
			t.Keys = append(t.Keys, rule.Key{Name: name, Unique: !nonUnique, Primary: name == "PRIMARY"})
		}
		if k := &t.Keys[len(t.Keys)-1]; rowEnd == "" || column != rowEnd {
			k.Columns = append(k.Columns, column) // "" is MySQL's index over an expression
		}
		return nil
	}, args...)
}

// binaryType reports whether values of a data type are bytes and not text.
func binaryType(dataType string) bool {
	switch dataType {
	case "binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "bit", "vector",
		"geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon",
		"geometrycollection", "geomcollection":
		return true
	}
	return false
}
