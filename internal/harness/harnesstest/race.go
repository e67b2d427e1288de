//go:build race

package harnesstest

// Race reports whether the tests run with the race detector.
const Race = true
