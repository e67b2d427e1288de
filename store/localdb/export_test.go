package localdb

import "time"

// SetTimes shortens the waits of a Server that does not run yet.
func (s *Server) SetTimes(stop, lock time.Duration) { s.stopTimeout, s.lockWait = stop, lock }
