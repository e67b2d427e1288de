// Package test holds the tests that need the whole: real processes, real databases, real kills, and clients that share
// no code with the server.
package test

import (
	"testing"
)

func TestMain(m *testing.M) { Main(m) }

const pointName = PointName
