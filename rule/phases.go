package rule

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// phase is one of the three parts of a rule.
type phase uint8

const (
	upside phase = iota
	downside
	updateState
)

var phaseNames = []string{"upside", "downside", "update_state"}

func (p phase) String() string { return phaseNames[p] }

func phaseNamed(s string) (phase, bool) {
	i := slices.Index(phaseNames, s)
	return phase(max(i, 0)), i >= 0
}

// mainPhase is the phase that a row must have. SQL without a heading belongs to it.
func (r *Row) mainPhase() phase {
	if (r.Type == Upload) == (r.User == Server) {
		return downside
	}
	return upside
}

// runs reports whether a row of this direction and side runs the phase at all.
func (r *Row) runs(p phase) bool { return p == r.mainPhase() || r.User == Client && p != downside }

// needs reports whether the row must have the phase.
func (r *Row) needs(p phase) bool {
	return p == r.mainPhase() || r.User == Client && r.UpdateState && p == updateState
}

// phases reads sync_sql as JSON or a Python literal: a dict of phases.
func (c *compiler) phases() (scripts []*script) {
	c.plan.Form = Literal
	if json.Valid([]byte(c.row.SQL)) {
		c.plan.Form = JSON
	}
	root := c.value("sync_sql", c.row.SQL)
	if root == nil {
		return nil
	}
	c.eachPhase("sync_sql", root, func(key string, item *node) {
		if p, ok := phaseNamed(key); ok {
			scripts = append(scripts, c.phaseScripts(p, item)...)
			return
		}
		for _, option := range items(item) {
			words, _ := text(&option)
			c.option(quoted(c.row.SQL, words, option.Start, option.End))
		}
	})
	return scripts
}

// phaseScripts takes a phase's value: nothing, one statement, a list of them, or a dict of operation and statement.
func (c *compiler) phaseScripts(p phase, n *node) (out []*script) {
	take := func(op string, n *node) {
		sql, ok := text(n)
		switch {
		case ok && strings.TrimSpace(sql) != "":
			out = append(out, &script{phase: p, op: op, src: quoted(c.row.SQL, sql, n.Start, n.End)})
		case !ok && n.Value != nil:
			c.badValue("sync_sql", n, fmt.Sprintf("a statement of %s must be text", p), "")
		}
	}
	if isDict(n) {
		for i := 0; i+1 < len(n.Items); i += 2 {
			op, _ := text(&n.Items[i])
			take(op, &n.Items[i+1])
		}
		return out
	}
	for _, item := range items(n) {
		take("", &item)
	}
	return out
}

// operations reads sync_operation_type and gives each script its operation. The column may be empty; then a statement's
// verb is its operation.
func (c *compiler) operations(scripts []*script) []*script {
	column := strings.TrimSpace(c.row.OperationType)
	if blank(column) {
		return scripts
	}
	chains := map[phase]string{c.row.mainPhase(): column}
	if literalBegins.MatchString(column) {
		root := c.value("sync_operation_type", c.row.OperationType)
		if root == nil {
			return scripts
		}
		clear(chains)
		if word, ok := text(root); ok {
			chains[c.row.mainPhase()] = word
		}
		c.eachPhase("sync_operation_type", root, func(key string, item *node) {
			chain, ok := text(item)
			if !ok && item.Value != nil {
				c.badValue("sync_operation_type", item, "a chain must be text", `write it like "insert|update"`)
			}
			p, _ := phaseNamed(key)
			chains[p] = chain
		})
	}
	if c.plan.Form == Literal && strings.TrimSpace(chains[downside]) == OpFile.String() &&
		!slices.ContainsFunc(scripts, func(s *script) bool { return s.phase == downside }) {
		scripts = append(scripts, &script{phase: downside, seed: &patch{}}) // its name is made of the table's
	}
	for p := upside; p <= updateState; p++ {
		if chains[p] != "" && c.row.runs(p) {
			c.chain(p, chains[p], scripts)
		}
	}
	return scripts
}

// chain gives the scripts of a phase the operations of its chain.
func (c *compiler) chain(p phase, chain string, scripts []*script) {
	if c.plan.Form == Literal && p == upside {
		return // the original's word chose a method there, and each of them read
	}
	bad := func(msg, fix string) { c.refuseIn(BadOperation, "sync_operation_type", msg, fix) }
	ops := strings.Split(strings.ReplaceAll(strings.ToLower(chain), " ", ""), "|")
	for _, op := range ops {
		if !slices.Contains(opNames, op) {
			bad(fmt.Sprintf("%q is not an operation", op), "there are "+strings.Join(opNames, ", "))
			return
		}
	}
	if c.plan.Form == Generated {
		written := map[phase][]string{upside: {"select"}, downside: {"insert|update", "update|insert"}}[p]
		if want := strings.Join(ops, "|"); written != nil && !slices.Contains(written, want) {
			bad("an empty sync_sql generates nothing for "+want, "clear sync_operation_type, or write sync_sql")
		}
		return
	}
	n := 0
	for _, s := range scripts {
		if s.phase != p {
			continue
		}
		op := ops[min(n, len(ops)-1)]
		if s.op != "" && s.op != op {
			bad(fmt.Sprintf("%s says %s, but the statement's heading says %s", p, op, s.op), "make them agree")
		}
		s.op = op
		n++
	}
	says := fmt.Sprintf("%s has %d statements for %s", p, n, chain)
	if c.plan.Form == Literal && n > 0 && n < len(ops) {
		c.warnIn(BadOperation, "sync_operation_type", says,
			"the operations without a statement do nothing, as in the original")
	} else if n > 0 && n != len(ops) && !(p == upside && len(ops) == 1) {
		bad(says, "give each operation one statement")
	}
}
