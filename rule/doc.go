// Package rule turns a row of sync_control into a Plan: bound statements for each phase, or diagnostics that name the
// column, the section, the line and the cure. It is pure: it reads no file, no clock and no database.
//
//	Row ─┬─ sync_sql empty ─────> SQL from Table ───┐
//	     ├─ plain SQL ──────────> sections ─────────┼─> lex ─> check ─> fill ─> Plan
//	     └─ JSON, a literal ────> phases, patches ──┘    │       │       │
//	                                                     └───────┴───────┴─> []Diagnostic
//
// The same Row and Table always compile to the same Plan, so a plan may be compared, cached and shown. Nothing changes
// a Plan after Compile has returned it, and any number of goroutines may use it.
//
// Values never become part of a statement: every placeholder of every form is an Arg, and Statement.Bind puts the
// values into the order of the `?` marks. Identifiers come from the rule or from the table's facts, never from a
// packet.
//
// Compile checks the text and what it knows of the table. The database's own PREPARE has the last word about names and
// types: Plan.Check gives it each statement and makes its refusals diagnostics with a position.
package rule
