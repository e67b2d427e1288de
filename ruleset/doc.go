// Package ruleset holds the rules in force at one side: at the centre those of the server, at a point those of the
// agent.
//
//	sync_control ──version, every poll──> changed? ──rows──> rule.Compile ──> PREPARE ──> Set, swapped in as a whole
//	                                                                             │
//	sync_rule_status <── state, place and text of the first error, runs <────────┘
//
// A DBA's edit is in force one poll later. A row that does not compile keeps its last good version, and other rows are
// not affected. While the database is away, everything stays as it is. A row that names a point counts before the row
// of every point (`*`), even when it is switched off, so that one point can be left out.
//
// A Set writes what it finds, and how often each rule ran, to the tables behind the view sync_control_status of the
// database where the row is edited.
package ruleset
