package protocol

import (
	"fmt"
	"slices"
)

// Status is a numbered outcome. The number is the same in the packet, the log, the metric, the status page and
// `syncgate explain-error`.
type Status uint16

// Statuses. 1–99 the wire and the session, 100–199 rules, 200–299 requests, 300–399 the database, 400–499 the agent,
// 500–599 configuration and operation.
const (
	StatusOK                 Status = 0
	StatusRejected           Status = 1
	StatusBusy               Status = 2
	StatusMalformed          Status = 3
	StatusBadMD5             Status = 4
	StatusTooLarge           Status = 5
	StatusGoingAway          Status = 6
	StatusOpUnsupported      Status = 7
	StatusLegacyRefused      Status = 8
	StatusVersionUnsupported Status = 9
	StatusRecordRefused      Status = 10
	StatusSessionExpired     Status = 11
	StatusUnexpectedFrame    Status = 12
	StatusTimeout            Status = 13
	StatusInternal           Status = 14

	StatusNoRule          Status = 200
	StatusUnknownTable    Status = 201
	StatusRuleBroken      Status = 202
	StatusRequestMismatch Status = 203
	StatusRequestIDReused Status = 204
	StatusRuleDisabled    Status = 205

	StatusDBUnavailable Status = 300
	StatusDBReadOnly    Status = 301
	StatusDeadlock      Status = 302
	StatusSQLError      Status = 303
	StatusRowRefused    Status = 304
	StatusFileError     Status = 305

	StatusAgentLocalDB     Status = 400
	StatusAgentApplyFailed Status = 401
	StatusAgentOutboxFull  Status = 402
	StatusAgentUnreachable Status = 403

	StatusConfigInvalid Status = 500
	StatusMasterKey     Status = 501
	StatusMigration     Status = 502
	StatusListen        Status = 503
)

// StatusInfo is what a person needs to know of a status.
type StatusInfo struct {
	Status  Status
	Name    string // upper case, as the documents write it
	Meaning string
	Remedy  string
	Retry   bool // the same request may be sent again and may then succeed
}

// String is SG and four digits, the form in which people meet a status: SG0104.
func (s Status) String() string { return fmt.Sprintf("SG%04d", uint16(s)) }

// Known reports whether the catalogue has the status.
func (s Status) Known() bool {
	_, ok := slices.BinarySearchFunc(catalogue[:], s, compareStatus)
	return ok
}

// Info is the catalogue's entry; for a number the catalogue lacks (a newer peer's) one that says so.
func (s Status) Info() StatusInfo {
	if i, ok := slices.BinarySearchFunc(catalogue[:], s, compareStatus); ok {
		return catalogue[i]
	}
	return StatusInfo{s, "UNKNOWN", "This version does not know the number.",
		"Look it up in the documents of the peer's version; the lower bound of its hundred says the area.", false}
}

// Statuses is the whole catalogue in order of number, a fresh copy.
func Statuses() []StatusInfo { return slices.Clone(catalogue[:]) }

func compareStatus(e StatusInfo, s Status) int { return int(e.Status) - int(s) }

// catalogue is sorted by number and never written to.
var catalogue = [...]StatusInfo{
	{StatusOK, "OK", "The request was done.", "Nothing.", false},
	{StatusRejected, "REJECTED", "The server did not accept the hello: unknown point, wrong or revoked key, or a hello that is not whole. It never says which.",
		"Compare point, key id and key with `syncgate point list`; make a new key with `syncgate point rotate`.", true},
	{StatusBusy, "BUSY", "The server takes no more work now: too many handshakes, connections or queued requests.",
		"Wait for retry-after plus a random part of it, then send the same again. If it lasts, give the server more workers or a larger queue.", true},
	{StatusMalformed, "MALFORMED", "Bytes do not follow the protocol.", "Update the peer; compare its bytes with docs/protocol.md and the vectors.", false},
	{StatusBadMD5, "BAD_MD5", "A frame's MD5 does not fit its bytes: damaged on the way, or not made by a syncgate.",
		"Reconnect and send again. If it happens often, look at the network path.", true},
	{StatusTooLarge, "TOO_LARGE", "A frame, or a number of elements in it, is over the limit.", "Send fewer rows a request, or raise max_frame on the server.", false},
	{StatusGoingAway, "GOING_AWAY", "The server drains or the session is at its end; the request was not begun.", "Reconnect and send the same request again.", true},
	{StatusOpUnsupported, "OP_UNSUPPORTED", "The server does not do this op.", "Do not ask again on this server; update it.", false},
	{StatusLegacyRefused, "LEGACY_REFUSED", "The seed-era wire is closed to this point: off, not its network, or it has already spoken the modern wire.",
		"Use the modern wire, or allow the point in its row.", false},
	{StatusVersionUnsupported, "VERSION_UNSUPPORTED", "Client and server have no version in common.", "Update the older of the two.", false},
	{StatusRecordRefused, "RECORD_REFUSED", "A record did not open under the session's key and counter: changed, replayed, dropped or out of order.",
		"The connection is closed; reconnect and send what was not answered again.", true},
	{StatusSessionExpired, "SESSION_EXPIRED", "The session has used up its records or its hour.", "Reconnect and send what was not answered again.", true},
	{StatusUnexpectedFrame, "UNEXPECTED_FRAME", "A frame came that has no place in this state, such as data before the hello.", "Update the peer; follow docs/protocol.md.", false},
	{StatusTimeout, "TIMEOUT", "The handshake, a frame or an answer was not complete in its time.", "Reconnect and send what was not answered again.", true},
	{StatusInternal, "INTERNAL", "The server failed in a way it has no number for.", "Send again later; the server's log has the cause under the same request id.", true},

	// Package rule owns these numbers; the texts are here with all others.
	{100, "BAD_COLUMN", "A column of the rule holds a value that is not one of the allowed words.", "Write one of the words the diagnostic lists.", false},
	{101, "BAD_LITERAL", "JSON or a Python literal in a column cannot be read or has the wrong shape.", "Correct it at the named line and column; `syncgate rules convert` writes the plain form.", false},
	{102, "BAD_SQL", "The SQL text cannot be read: an open string, an open bracket, a stray character.", "Correct it at the named line and column.", false},
	{103, "RULE_UNKNOWN_TABLE", "The rule's table is not in the database.", "Create the table or correct its name.", false},
	{104, "UNKNOWN_COLUMN", "A column the rule names is not in the table.", "Correct the name; the diagnostic proposes the nearest one.", false},
	{105, "NOT_ALLOWED", "The statement is of a kind this phase does not run: only SELECT at upside, only INSERT, UPDATE, DELETE and REPLACE at downside and update_state.", "Rewrite it as one of those; do schema changes outside the rules.", false},
	{106, "SEVERAL_STATEMENTS", "More than one statement stands where one is run.", "Write one statement an operation; put the others into their own sections.", false},
	{107, "FORBIDDEN_CLAUSE", "The statement has a clause that reaches outside a row's transfer, such as INTO OUTFILE or @variables.", "Remove the clause.", false},
	{108, "FORBIDDEN_FUNCTION", "The statement calls a function that waits, locks or reads files.", "Remove the call.", false},
	{109, "EXECUTABLE_COMMENT", "The statement has a comment that a server would run.", "Write it as plain SQL or leave it out.", false},
	{110, "PLACEHOLDER_IN_TEXT", "A %s stands inside a longer literal or a name, where nothing can be bound.", "Build the text in SQL, such as concat('%', :name, '%').", false},
	{111, "PLACEHOLDER_COUNT", "The placeholders do not match the fields that fill them.", "Give each placeholder one entry in sync_patch_field, or use named parameters.", false},
	{112, "UNKNOWN_PARAMETER", "A :name has no value in this phase.", "Use one of the names the diagnostic lists.", false},
	{113, "UNKNOWN_FIELD", "A field is not among the rule's fields or the table's columns.", "Correct the name or add it to sync_field.", false},
	{114, "DUPLICATE_FIELD", "A field is named twice.", "Name it once.", false},
	{115, "BAD_OPERATION", "The chain of operations does not fit the statements.", "Write one statement for each operation, in the same order.", false},
	{116, "MISSING_PHASE", "A phase that this rule needs has no statement.", "Add the section the diagnostic names.", false},
	{117, "UNUSED_PHASE", "A phase that this side never runs has statements.", "Move them to the other side's row, or remove them.", false},
	{118, "BAD_RANGE", "sync_range and sync_range_value cannot be read or do not fit the SQL.", "Write period and a value such as hour:6, and use :since and :until.", false},
	{119, "ODD_PERIOD", "The period is unreasonably short or long.", "Check number and unit.", false},
	{120, "HOUR_RANGE", "An hour is an hour here; the original multiplied hours by 24.", "If days were meant, write day:n.", false},
	{121, "FALL_THROUGH", "An update that matches no row goes on to the next operation; the original's did not.", "If that is not wanted, leave the next operation out.", false},
	{122, "NO_PRIMARY_KEY", "Generated statements need a primary key.", "Add one, or write the statements in sync_sql.", false},
	{123, "NO_TABLE_FACTS", "Generated statements need the table's columns, which are not known.", "Check that the database answers and the table exists.", false},
	{124, "NO_WATERMARK_INDEX", "No index begins with the column the upside advances by, so each read scans the table.", "Add an index on it.", false},
	{125, "NOT_IDEMPOTENT", "Applying the same row again fails or doubles it.", "Use insert|update, or replace.", false},
	{126, "NO_WATERMARK", "Without an update_time only new rows are seen, not changed ones.", "Add an update_time column, or accept it.", false},
	{127, "NULL_WATERMARK", "Rows whose update_time is NULL are never read.", "Make the column NOT NULL with a default.", false},
	{128, "BAD_FILE", "The file operation's name, format or column cannot be used.", "Use a name without directories and one of csv, tsv, json or lines.", false},
	{129, "BAD_CURSOR", "A paged upside cannot advance: its state is not selected, not ordered by, or missing.", "Select and order by the state's columns.", false},
	{130, "UNBOUNDED_READ", "The upside reads the whole table each time.", "Bound it by a watermark or a period.", false},
	{131, "MISSING_PEER", "The other side's row for this table and direction is missing.", "Add it with sync_user set to the other side.", false},
	{132, "DUPLICATE_RULE", "Two rows stand for one table, direction, side and point.", "Disable or remove one.", false},
	{133, "ECHO", "The row would travel up and down for ever.", "Exclude at upside what came from the other side.", false},
	{134, "NO_UPDATE_TIME", "sync_is_update_time is set, but the rule has no field update_time.", "Add the field, or clear the switch.", false},
	{135, "STATE_MISMATCH", "The switches for carried state and update_state do not fit the statements.", "Set them to what the statements use.", false},
	{136, "BAD_OPTION", "An option or a section heading is not known.", "Use one of those the diagnostic lists.", false},
	{137, "LOCKING_READ", "The upside locks the rows it reads.", "Remove FOR UPDATE or LOCK IN SHARE MODE.", false},
	{138, "FIELD_MISMATCH", "The two sides of a rule name different fields.", "Bring both to the same fields in the same order.", false},
	{139, "UNPAGEABLE_KEY", "Generated statements cannot page by a key of this type.", "Write the upside in sync_sql with a state of your own.", false},
	{140, "WHOLE_TABLE", "An update or delete without WHERE touches every row.", "Add a WHERE on the row's key.", false},
	{141, "REFUSED_BY_DATABASE", "The database refused to prepare the statement.", "See MySQL's own message in the diagnostic.", false},
	{142, "RULE_TOO_LARGE", "A column of the rule is longer than is read.", "Shorten it.", false},
	{143, "OLD_PLACEHOLDER", "%s or ? stands in plain SQL, where names are used.", "Write :name; `syncgate rules convert` does it.", false},
	{144, "UNFILLED_COLUMN", "A column without a default is not among the fields, so an insert fails.", "Add the field, or give the column a default.", false},
	{145, "SHARED_KEY", "Rows of two points can have the same generated key, and then overwrite each other.", "Make the point a part of the key, or give each point its own range of numbers.", false},

	{StatusNoRule, "NO_RULE", "No rule of sync_control covers this table, direction and point.", "Add a row for the point or for `*`, and enable it.", false},
	{StatusUnknownTable, "UNKNOWN_TABLE", "The rule's table does not exist.", "Create the table or correct sync_table.", false},
	{StatusRuleBroken, "RULE_BROKEN", "The rule cannot be compiled and has no last good version.", "See sync_control_status for row, column and reason; correct the row.", true},
	{StatusRequestMismatch, "REQUEST_MISMATCH", "The request does not fit the rule: other fields, another number of values, or state it does not carry.",
		"Bring the point's rule and the centre's rule to the same fields.", false},
	{StatusRequestIDReused, "REQUEST_ID_REUSED", "The request id was used before for something else, or was already confirmed.",
		"Start a new epoch and send what is unacknowledged under it.", false},
	{StatusRuleDisabled, "RULE_DISABLED", "The rule is switched off.", "Set enabled = 1 in its row; the request may be sent again then.", true},

	{StatusDBUnavailable, "DB_UNAVAILABLE", "The centre's database does not answer.", "Send the same request again after retry-after; nothing was applied or the ledger knows it.", true},
	{StatusDBReadOnly, "DB_READONLY", "The centre's database refuses writes (read_only, failover in progress).", "Send the same request again after retry-after.", true},
	{StatusDeadlock, "DEADLOCK", "The transaction lost a deadlock or waited too long for a lock, also when tried again.", "Send the same request again after retry-after.", true},
	{StatusSQLError, "SQL_ERROR", "A statement of the rule failed; nothing was applied.", "See the server's log for the statement and MySQL's error; correct the rule or the table.", false},
	{StatusRowRefused, "ROW_REFUSED", "No operation of the chain took the row.", "Look at the row in sync_quarantine; correct it there or at the point.", false},
	{StatusFileError, "FILE_ERROR", "The file of a file operation could not be written.", "Check the configured directory, its space and its owner.", true},

	{StatusAgentLocalDB, "AGENT_LOCAL_DB", "The agent's own database does not answer or refuses a statement.", "Check the point's MySQL and the agent's DSN.", true},
	{StatusAgentApplyFailed, "AGENT_APPLY_FAILED", "Rows came down but could not be applied at the point; its state was not moved.", "See the agent's log; correct the client rule or the local table.", true},
	{StatusAgentOutboxFull, "AGENT_OUTBOX_FULL", "The outbox holds as much as it may; no more rows are collected until some are acknowledged.", "Restore the way to the centre, or allow a larger outbox.", true},
	{StatusAgentUnreachable, "AGENT_UNREACHABLE", "The agent could not reach the server.", "Check address, network and server; the outbox keeps the rows.", true},

	{StatusConfigInvalid, "CONFIG_INVALID", "The configuration has an error.", "Correct the named line.", false},
	{StatusMasterKey, "MASTER_KEY", "The master key file is missing, readable by others, or does not open the stored keys.", "Restore the file the keys were wrapped with, mode 0600.", false},
	{StatusMigration, "MIGRATION", "The schema is not at the version this program needs.", "Run `syncgate migrate`.", false},
	{StatusListen, "LISTEN", "The server cannot listen on the configured address.", "Free the address or configure another.", false},
}
