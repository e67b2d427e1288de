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
