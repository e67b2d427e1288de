package reactor

import (
	"testing"
	"unsafe"
)

// TestConnSize holds the price of an idle connection: 144 bytes is an allocator's size class.
func TestConnSize(t *testing.T) {
	if size := unsafe.Sizeof(Conn{}); size > 144 {
		t.Errorf("a Conn takes %d bytes", size)
	}
}
