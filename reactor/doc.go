// Package reactor moves whole frames between sockets and a Handler, and owns every descriptor.
package reactor
