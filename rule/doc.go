// Package rule turns a row of sync_control into a Plan: bound statements for each phase, or diagnostics that name the
// column, the section, the line and what would cure it. It is pure: it reads no file, no clock and no database.
//
//	Row ─┬─ sync_sql empty ─────> SQL from Table ───┐
//	     ├─ plain SQL ──────────> sections ─────────┼─> lex ─> judge ─> fill ─> Plan
//	     └─ JSON, a literal ────> phases, patches ──┘    │       │       │
//	                                                     └───────┴───────┴─> []Diagnostic
//
// The same Row always compiles to the same Plan, so a plan may be compared, cached and shown. A Plan is never changed
// once it was returned and may be used by any number of goroutines.
//
// Values never become part of a statement: every placeholder of every form is an Arg, and Statement.Bind puts the
// values into the order of the `?` marks. Identifiers come from the rule or from the table's facts, never from a
// packet.
//
// What is judged here is judged from the text and from facts handed in (Table). The database's own PREPARE has the last
// word about names and types; Explain turns what it says back into a Diagnostic with a position.
package rule
