package protocol

import (
	"sync/atomic"
	"time"
)

// Pace finds how large the pieces of a message may be, so that other messages of a connection wait half a second for
// one at most. Its zero value begins with small pieces. Any goroutine may use it.
type Pace struct{ piece atomic.Int32 }

const (
	leastPiece = 4 << 10
	mostPiece  = 256 << 10
	slowPiece  = 500 * time.Millisecond
)

// Piece is the size of the next piece.
func (p *Pace) Piece() int { return max(int(p.piece.Load()), leastPiece) }

// Took learns how long n bytes took to leave. A few say nothing.
func (p *Pace) Took(n int, d time.Duration) {
	piece := p.Piece()
	switch {
	case d > slowPiece:
		piece /= 2
	case d < slowPiece/4 && n >= piece/2:
		piece *= 2
	}
	p.piece.Store(int32(min(max(piece, leastPiece), mostPiece)))
}
