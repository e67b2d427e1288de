package store

import (
	"cmp"
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

// columns are those of sync_control. They make every statement that lists them.
type columns rule.Columns

// join puts commas between what part returns for each column, and leaves "" out.
func (cs columns) join(part func(c *rule.ControlColumn) string) string {
	var all []string
	for i := range cs {
		if p := part(&cs[i]); p != "" {
			all = append(all, p)
		}
	}
	return strings.Join(all, ", ")
}

// selected is the list of a SELECT, with NULL as "". A flag may be a text in the original's table.
func (cs columns) selected() string {
	return cs.join(func(c *rule.ControlColumn) string {
		switch c.Field(new(rule.Row)).(type) {
		case *string:
			return "COALESCE(" + c.Name + ", '')"
		case *bool:
			return "COALESCE(" + c.Name + ", 0) NOT IN ('', '0', 'False', 'None')"
		}
		return c.Name
	})
}

// fields are where a row of selected goes.
func (cs columns) fields(r *rule.Row) []any {
	into := make([]any, len(cs))
	for i := range cs {
		into[i] = cs[i].Field(r)
	}
	return into
}

// object is the arguments of JSON_OBJECT in a trigger: the columns of OLD or NEW that the history keeps.
func (cs columns) object(row string) string {
	return cs.join(func(c *rule.ControlColumn) string {
		if !c.Edited() && c.Name != "id" {
			return ""
		}
		return "'" + c.Name + "', " + row + "." + c.Name
	})
}

// past reads a row of the history; nil for NULL. A flag that was not declared then has its default.
func (cs columns) past(text sql.NullString) (r *rule.Row, err error) {
	if !text.Valid {
		return nil, nil
	}
	var kept map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text.String), &kept); err != nil {
		return nil, err
	}
	r = &rule.Row{}
	for _, c := range cs {
		raw, ok := kept[c.Name]
		value := string(raw)
		var quoted string
		if json.Unmarshal(raw, &quoted) == nil { // a number or a flag is a text where the original's table has texts
			value = quoted
		}
		switch field := c.Field(r).(type) {
		case *bool:
			*field = value == "1" || value == "True" || !ok && strings.HasSuffix(c.Type, "DEFAULT 1")
		case *string:
			*field = value
		case *uint64:
			if *field, err = strconv.ParseUint(value, 10, 64); ok && err != nil {
				return nil, fmt.Errorf("%s: %w", c.Name, err)
			}
		}
	}
	return r, nil
}

// save is the statement that writes the edited columns of a row, and its id unless that is 0. Empty texts become NULL.
func (cs columns) save(r *rule.Row) (query string, values []any) {
	var updates []string
	names := cs.join(func(c *rule.ControlColumn) string {
		if !c.Edited() && (c.Name != "id" || r.ID == 0) {
			return ""
		}
		v := c.Value(r)
		if v == "" && !strings.Contains(c.Type, "NOT NULL") {
			v = nil
		}
		values = append(values, v)
		updates = append(updates, c.Name+" = VALUES("+c.Name+")")
		return c.Name
	})
	query = insert("sync_control", names, len(values)) + " ON DUPLICATE KEY UPDATE " + strings.Join(updates, ", ")
	return query, values
}

// fetched is the statement that writes a row of a RULES reply into sync_agent_rule. It has no name from the wire in it.
// A column that the centre does not send gets its default.
func (cs columns) fetched(row []rowset.StateItem) (query string, values []any) {
	names := cs.join(func(c *rule.ControlColumn) string {
		i := slices.IndexFunc(row, func(item rowset.StateItem) bool { return item.Name == c.Name && item.Value != nil })
		if i < 0 {
			return ""
		}
		values = append(values, row[i].Value)
		return c.Name
	})
	return insert("sync_agent_rule", names, len(values)), values
}

func insert(table, names string, n int) string {
	return "INSERT INTO " + table + " (" + names + ") VALUES " + marks(n)
}

// definition is a column in CREATE TABLE and ALTER TABLE.
type definition struct{ name, column, check string }

// definitions are the columns of sync_control or sync_agent_rule. Another name has none.
func (cs columns) definitions(table string) (all []definition) {
	for _, c := range cs {
		switch table {
		case "sync_control":
			d := definition{name: c.Name, column: c.Name + " " + c.Type + " COMMENT '" + c.Comment + "'"}
			if _, flag := c.Field(new(rule.Row)).(*bool); flag {
				d.check = "CONSTRAINT `" + c.Name + " must be 0 or 1` CHECK (" + c.Name + " IN (0, 1))"
			}
			all = append(all, d)
		case "sync_agent_rule":
			column := c.Name + " " + cmp.Or(c.Fetched, c.Type) + " COMMENT 'As in sync_control at the centre'"
			all = append(all, definition{name: c.Name, column: column})
		}
	}
	return all
}

// lists fill the braces in the migrations.
func (cs columns) lists() map[string]string {
	table := func(name string) string {
		var columns, checks []string
		for _, d := range cs.definitions(name) {
			columns = append(columns, d.column)
			if d.check != "" {
				checks = append(checks, d.check)
			}
		}
		return strings.Join(append(columns, checks...), ",\n    ")
	}
	return map[string]string{
		"columns": table("sync_control"), "fetched columns": table("sync_agent_rule"),
		"old row": cs.object("OLD"), "new row": cs.object("NEW"),
	}
}
