// Package test holds the tests that need the whole: real processes, real databases, real kills, and clients that share
// no code with the server.
package test

import (
	"testing"

	"syncgate/internal/harness/harnesstest"
)

func TestMain(m *testing.M) { harnesstest.Main(m) }

const pointName = harnesstest.PointName
