package protocol

import "time"

// BusyFrame is the REJECT that a server at its cap sends to a connection it does not take up.
func BusyFrame(retryAfter time.Duration) []byte { return RejectFrame(StatusBusy, retryAfter) }
