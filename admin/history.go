package admin

import (
	"context"
	"sync"
	"time"
)

// A sample is taken every sampleEvery, and those of an hour are kept.
const (
	sampleEvery = 10 * time.Second
	maxSamples  = 360
)

// Sample is one period. Rates are by the second, times in seconds.
type Sample struct {
	At   time.Time `json:"at"` // its end
	Up   float64   `json:"up"` // rows
	Down float64   `json:"down"`
	P50  float64   `json:"p50"` // of the time that requests took; 0 when there was none
	P99  float64   `json:"p99"`
	Lag  float64   `json:"lag"` // of the point that is most behind
}

type history struct {
	mu      sync.Mutex
	samples []Sample // oldest first
}

func (h *history) read() []Sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Sample{}, h.samples...)
}

// sample takes samples until ctx ends.
func (s *Server) sample(ctx context.Context) {
	tick := time.NewTicker(sampleEvery)
	defer tick.Stop()
	last, at := s.options.Gateway.Load(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		load, now := s.options.Gateway.Load(), time.Now()
		one := compare(&last, &load, now.Sub(at).Seconds(), now)
		for _, r := range s.options.Gateway.Reports() {
			one.Lag = max(one.Lag, float64(Sum(&r, now).LagMs)/1000)
		}
		s.history.add(one)
		last, at = load, now
	}
}

func (h *history) add(one Sample) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.samples = append(h.samples, one)
	h.samples = h.samples[max(0, len(h.samples)-maxSamples):]
}

// slow reports whether the requests of the last minute took long, and how long.
func (h *history) slow() (p99 float64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := h.samples[max(0, len(h.samples)-6):]
	if len(last) < 6 {
		return 0
	}
	p99 = last[0].P99
	for _, s := range last {
		p99 = min(p99, s.P99)
	}
	return p99
}

func compare(last, now *Load, seconds float64, at time.Time) Sample {
	counts := make([]uint64, len(now.Requests))
	for i, n := range now.Requests {
		counts[i] = n
		if i < len(last.Requests) {
			counts[i] -= last.Requests[i]
		}
	}
	return Sample{At: at, Up: float64(now.RowsUp-last.RowsUp) / seconds,
		Down: float64(now.RowsDown-last.RowsDown) / seconds,
		P50:  quantile(0.5, now.Bounds, counts), P99: quantile(0.99, now.Bounds, counts)}
}

// quantile estimates a quantile of a histogram; counts[i] are the values up to bounds[i].
func quantile(q float64, bounds []float64, counts []uint64) float64 {
	if len(counts) == 0 || counts[len(counts)-1] == 0 {
		return 0
	}
	wanted := q * float64(counts[len(counts)-1])
	low, before := 0.0, 0.0
	for i, n := range counts {
		if n := float64(n); n >= wanted && n > before {
			return low + (bounds[i]-low)*(wanted-before)/(n-before)
		}
		low, before = bounds[i], float64(n)
	}
	return low
}
