package protocol

import "errors"

// Errors of this package. Each is a number of the catalogue, found with StatusOf; callers test with errors.Is.
var (
	ErrMagic      = newError(StatusMalformed, "frame does not start with C5 53 47 02")
	ErrHeader     = newError(StatusMalformed, "frame header: unknown type, or flags or reserved not 0")
	ErrTooLarge   = newError(StatusTooLarge, "frame over the limit")
	ErrMD5        = newError(StatusBadMD5, "frame's MD5 does not fit")
	ErrFrame      = newError(StatusMalformed, "frame is not whole")
	ErrUnexpected = newError(StatusUnexpectedFrame, "frame has no place in this state")
	ErrHello      = newError(StatusMalformed, "hello is not whole")
	ErrAuth       = newError(StatusRejected, "handshake does not open: key, point or bytes differ")
	ErrNoKey      = newError(StatusRejected, "no live key of that point and id")
	ErrVersion    = newError(StatusVersionUnsupported, "no version in common")
	ErrWelcome    = newError(StatusMalformed, "welcome is not acceptable")
	ErrRecord     = newError(StatusRecordRefused, "record does not open")
	ErrBusy       = newError(StatusBusy, "too many handshakes")
	ErrExpired    = newError(StatusSessionExpired, "session has used up its records")
	ErrEnvelope   = newError(StatusMalformed, "envelope: too short, or flags unknown")
	ErrPayload    = newError(StatusMalformed, "payload is not as documented")
	ErrLimit      = newError(StatusTooLarge, "payload has too many elements")
	ErrValue      = newError(StatusInternal, "not a SQL value")
	ErrBody       = newError(StatusInternal, "message body is of another type")
	ErrState      = newError(StatusInternal, "session is not established")
	ErrRequestID  = newError(StatusInternal, "epoch 0 belongs to the server")
)

type wireError struct {
	status Status
	text   string
}

func newError(s Status, text string) error { return &wireError{s, text} }

func (e *wireError) Error() string  { return "protocol: " + e.text }
func (e *wireError) Status() Status { return e.status }

// StatusOf is the catalogue's number for err: StatusOK for nil, a RejectError's own, the number of the first error in
// the chain that has a method Status() Status, else StatusInternal.
func StatusOf(err error) Status {
	if err == nil {
		return StatusOK
	}
	var r *RejectError
	if errors.As(err, &r) {
		return r.Status
	}
	var s interface{ Status() Status }
	if errors.As(err, &s) {
		return s.Status()
	}
	return StatusInternal
}
