// Package harness runs syncgate's own commands as processes and compares the rows they leave in two databases. The demo
// and the tests use it.
package harness

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"
)

// maxLog is how many bytes of a process's log are kept.
const maxLog = 1 << 20

// Process is a running command that writes its log to standard error, as one JSON object a line.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended and its log is complete
	err  error         // of the end; valid after done

	mu      sync.Mutex
	log     []byte
	dropped int           // bytes that were in front of log
	grown   chan struct{} // closed and replaced when log grows
}

// Start starts cmd in a process group of its own, so that ^C on the terminal does not reach it.
func Start(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, done: make(chan struct{}), grown: make(chan struct{})}
	cmd.Stderr = p
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// Write takes the process's log.
func (p *Process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.log = append(p.log, b...)
	drop := max(0, len(p.log)-maxLog)
	p.log = p.log[drop:]
	p.dropped += drop
	close(p.grown)
	p.grown = make(chan struct{})
	return len(b), nil
}

// Log is the log so far, or its last MiB.
func (p *Process) Log() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.log)
}

// WaitLog waits until the log has a line with this message and returns the line's fields. It fails when the process or
// ctx ends first.
func (p *Process) WaitLog(ctx context.Context, message string) (map[string]any, error) {
	line, err := p.WaitLine(ctx, func(line map[string]any) bool { return line["message"] == message })
	if err != nil {
		return nil, fmt.Errorf("no log line %q: %w", message, err)
	}
	return line, nil
}

// WaitLine waits until the log has a line of which is returns true. It begins with the first line that is kept.
func (p *Process) WaitLine(ctx context.Context, is func(line map[string]any) bool) (map[string]any, error) {
	read := 0
	for {
		var ended bool
		select {
		case <-p.done:
			ended = true // its last lines are still to be read
		default:
		}
		p.mu.Lock()
		read = max(read, p.dropped)
		text, grown := bytes.Clone(p.log[read-p.dropped:]), p.grown
		p.mu.Unlock()
		end := bytes.LastIndexByte(text, '\n') + 1
		read += end
		for line := range bytes.Lines(text[:end]) {
			var fields map[string]any
			if json.Unmarshal(line, &fields) == nil && is(fields) {
				return fields, nil
			}
		}
		if ended {
			return nil, fmt.Errorf("the process ended: %v\n%s", p.err, p.Log())
		}
		select {
		case <-p.done:
		case <-grown:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Pid is the number of the process.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Kill kills the process as a power cut would. It fails when the process had ended by itself.
func (p *Process) Kill() error {
	err := p.cmd.Process.Kill()
	<-p.done
	return err
}

// Dump ends the process as Kill does and has it write the stacks of its goroutines into its log first.
func (p *Process) Dump(waitLimit time.Duration) error {
	late := time.AfterFunc(waitLimit, func() { _ = p.cmd.Process.Kill() }) // it does not dump
	defer late.Stop()
	err := p.cmd.Process.Signal(syscall.SIGQUIT)
	<-p.done
	return err
}

// Stop sends TERM and waits. It kills a process that has not ended after waitLimit, and fails unless the process ended
// by itself with exit code 0.
func (p *Process) Stop(waitLimit time.Duration) error {
	err := p.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(waitLimit, func() { _ = p.cmd.Process.Kill() }) // p.err says so
	defer late.Stop()
	<-p.done
	return errors.Join(err, p.err)
}

// Rows stands for the rows of a table, in whatever order: a hash of each row by its first column.
type Rows map[string][sha256.Size]byte

// ReadRows reads a whole table with the plain driver, independently of syncgate's own code. The first column is the
// key.
func ReadRows(ctx context.Context, db *sql.DB, table string) (Rows, error) {
	// The argument makes the server answer in the binary protocol: as text a FLOAT would lose digits.
	rows, err := db.QueryContext(ctx, "SELECT * FROM `"+table+"` WHERE ? = 1", 1)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	values, scan := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		scan[i] = &values[i]
	}
	all := Rows{}
	for rows.Next() {
		if err := rows.Scan(scan...); err != nil {
			return nil, err
		}
		// JSON has bytes as base64 and numbers exactly, so that no two rows give the same text.
		text, err := json.Marshal(values)
		if err != nil {
			return nil, err
		}
		all[fmt.Sprint(values[0])] = sha256.Sum256(text)
	}
	return all, rows.Err()
}

// Sum is one number for all rows.
func (r Rows) Sum() (sum uint64) {
	for _, hash := range r {
		sum += binary.BigEndian.Uint64(hash[:])
	}
	return sum
}

// Differences are the keys of the rows that are only in r or only in other, or differ.
func (r Rows) Differences(other Rows) []string {
	all := maps.Clone(r)
	maps.Copy(all, other)
	maps.DeleteFunc(all, func(key string, _ [sha256.Size]byte) bool { return r[key] == other[key] })
	return slices.Sorted(maps.Keys(all))
}
