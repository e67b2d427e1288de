package localdb

import "time"

// WithTimes shortens the waits of a Server.
func (o Options) WithTimes(stop, lock time.Duration) Options {
	o.stopTimeout, o.lockWait = stop, lock
	return o
}
