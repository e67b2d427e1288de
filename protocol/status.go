package protocol

import (
	_ "embed" // the catalogue
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// Status is a numbered outcome. Packets, logs, metrics, the status page and `syncgate explain-error` share the numbers.
type Status uint16

// The statuses that code names. statuses.tsv has all: 1–99 the wire and the session, 100–199 rules (package rule
// defines them), 200–299 requests, 300–399 the database, 400–499 the agent, 500–599 configuration and operation.
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
	StatusInternal           Status = 14

	StatusNoRule          Status = 200
	StatusUnknownTable    Status = 201
	StatusRuleBroken      Status = 202
	StatusRequestMismatch Status = 203
	StatusRequestIDReused Status = 204
	StatusRuleDisabled    Status = 205

	StatusDBUnavailable  Status = 300
	StatusDBReadOnly     Status = 301
	StatusDeadlock       Status = 302
	StatusSQLError       Status = 303
	StatusRowRefused     Status = 304
	StatusFileError      Status = 305
	StatusQuarantineFull Status = 306

	StatusAgentOutboxFull Status = 402
)

// StatusInfo is a status in the catalogue.
type StatusInfo struct {
	Status  Status
	Name    string // upper case, as in the documents
	Meaning string
	Remedy  string
	Retry   bool // the same request may succeed later

	word string // the v1 wire's Error_Type for it, by default
}

// String is SG and four digits, as in SG0104.
func (s Status) String() string { return fmt.Sprintf("SG%04d", uint16(s)) }

//go:embed statuses.tsv
var statuses string

// catalogue reads statuses.tsv. A line has number, name, retry, word, meaning and remedy; lines are in order of number.
var catalogue = sync.OnceValue(func() (all []StatusInfo) {
	for line := range strings.Lines(statuses) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		n, err := strconv.ParseUint(f[0], 10, 16)
		if err != nil || len(f) != 6 {
			panic("protocol: statuses.tsv: " + line)
		}
		all = append(all, StatusInfo{Status(n), f[1], f[4], f[5], f[2] == "yes", f[3]})
	}
	return all
})

// Known reports whether the catalogue has the status.
func (s Status) Known() bool { return s.Info().Name != unknown }

const unknown = "UNKNOWN"

// Info is the catalogue's entry; for a number the catalogue lacks (a newer peer's) one that says so.
func (s Status) Info() StatusInfo {
	for _, e := range catalogue() {
		if e.Status == s {
			return e
		}
	}
	return StatusInfo{s, unknown, "This version does not know the number.",
		"Look it up in the documents of the peer's version. Its hundred tells the area.", false, "Server_DB_Error"}
}

// Errors of this package. Callers test with errors.Is; StatusOf gives the status of each.
var (
	errMagic      = newError(StatusMalformed, "frame does not start with C5 53 47 02")
	errHeader     = newError(StatusMalformed, "frame header: unknown type, or flags or reserved not 0")
	ErrTooLarge   = newError(StatusTooLarge, "frame over the limit")
	errMD5        = newError(StatusBadMD5, "frame's MD5 does not fit")
	errFrame      = newError(StatusMalformed, "frame is not whole")
	errUnexpected = newError(StatusUnexpectedFrame, "frame has no place in this state")
	errHello      = newError(StatusMalformed, "hello is not whole")
	errAuth       = newError(StatusRejected, "handshake does not open: key, point or bytes differ")
	errNoKey      = newError(StatusRejected, "no live key of that point and id")
	errWelcome    = newError(StatusMalformed, "welcome is not acceptable")
	errRecord     = newError(StatusRecordRefused, "record does not open")
	ErrExpired    = newError(StatusSessionExpired, "session has used up its records")
	errEnvelope   = newError(StatusMalformed, "envelope: too short, or flags unknown")
	ErrPayload    = newError(StatusMalformed, "payload is not as documented")
	ErrLimit      = newError(StatusTooLarge, "payload has too many elements")
	ErrValue      = newError(StatusInternal, "not a SQL value")
	errBody       = newError(StatusInternal, "message body is of another type")
	errPiece      = newError(StatusMalformed, "piece of a message does not fit it")
	errPacked     = newError(StatusMalformed, "packed payload does not open")
	errForgotten  = newError(StatusBusy, "the beginning of the message is no longer here, send all of it")
	errShare      = newError(StatusBusy, "the point holds its share of the server's memory")
	errState      = newError(StatusInternal, "session is not established")
	errEpoch      = newError(StatusRequestIDReused, "an epoch of 2^63 or more belongs to the v1 wire")
	errRequestID  = newError(StatusInternal, "epoch 0 belongs to the server")
)

type wireError struct {
	status Status
	text   string
	kind   error // that it is one of; may be nil
}

func newError(s Status, text string) error { return &wireError{status: s, text: text} }

func (e *wireError) Error() string  { return "protocol: " + e.text }
func (e *wireError) Status() Status { return e.status }
func (e *wireError) Unwrap() error  { return e.kind }

// Detail is the text of this package's error in the chain of err, "" where there is none. It holds no values.
func Detail(err error) string {
	if e, ok := errors.AsType[*wireError](err); ok {
		return e.text
	}
	return ""
}

// StatusOf returns the status of err: StatusOK for nil, that of a RejectError, that of the first error in the chain
// with a method Status() Status, or else StatusInternal.
func StatusOf(err error) Status {
	if err == nil {
		return StatusOK
	}
	if r, ok := errors.AsType[*RejectError](err); ok {
		return r.Status
	}
	var s interface{ Status() Status }
	if errors.As(err, &s) {
		return s.Status()
	}
	return StatusInternal
}
