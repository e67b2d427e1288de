//go:build !race

package test

// Race reports whether the tests run with the race detector.
const Race = false
