package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"syncgate/protocol"
)

// idle opens n authenticated sessions that then do nothing, and gives the server's resident bytes for each. The server
// has a memory limit below what it needs at rest, which keeps its collector at work and has it give back what is free:
// what is left is what the sessions need.
func (b *bench) idle(ctx context.Context, n int) (float64, error) {
	stop, pid, err := b.serve(ctx, "GOMEMLIMIT=8MiB", "SYNCGATE_HANDSHAKES_PER_SECOND=100000",
		"SYNCGATE_MAX_CONNECTIONS_PER_ADDRESS=20000", "SYNCGATE_MAX_CONNECTIONS=20000", "SYNCGATE_KEEPALIVE=10m")
	if err != nil {
		return 0, err
	}
	defer stop()
	// The first sessions pay for what is there once.
	const warm = 200
	var clients []*client
	defer func() {
		for _, c := range clients {
			c.conn.Close()
		}
	}()
	before := 0
	for i := range n + warm {
		if i == warm {
			if before, err = settled(pid); err != nil {
				return 0, err
			}
		}
		c, err := dial(ctx, b.address, b.keys[i%len(b.keys)], readBuffer)
		if err != nil {
			return 0, fmt.Errorf("session %d: %w", i, err)
		}
		clients = append(clients, c)
		if err := c.send(&protocol.Message{Op: protocol.OpPing}); err != nil {
			return 0, err
		}
		if _, err := c.next(); err != nil {
			return 0, err
		}
		c.in.Reset(nil) // the client's own buffers are not what is measured
		c.in, c.out = nil, nil
	}
	after, err := settled(pid)
	return float64(after-before) / float64(n), err
}

// settled waits until the resident memory of a process has not shrunk for two seconds, and gives it in bytes.
func settled(pid int) (int, error) {
	least, since := 1<<62, time.Now()
	for time.Since(since) < 2*time.Second {
		now, err := resident(pid)
		if err != nil {
			return 0, err
		}
		if now < least {
			least, since = now, time.Now()
		}
		time.Sleep(50 * time.Millisecond) // memory tells nobody that it shrank
	}
	return least, nil
}

// resident reads the resident set of a process, in bytes.
func resident(pid int) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(text, []byte("VmRSS:"))
	line, _, _ := strings.Cut(string(rest), "kB")
	kib, err := strconv.Atoi(strings.TrimSpace(line))
	return kib << 10, err
}
