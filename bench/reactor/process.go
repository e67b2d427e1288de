package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
)

// child is a server in a process of its own, so that its processor time and its memory are its own.
type child struct {
	addr string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
}

func spawn(name string) (*child, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe, "-serve", name, "-addr", addr)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{addr: addr, cmd: cmd, in: in, out: bufio.NewReader(out)}
	for range 500 {
		if conn, err := net.Dial("tcp", addr); err == nil {
			conn.Close()
			return c, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.end()
	return nil, fmt.Errorf("%s does not listen", name)
}

func freeAddress() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

func (c *child) end() {
	c.in.Close()
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

// ask has the child do one of obey's commands and returns its answer.
func (c *child) ask(command string) (int64, error) {
	if _, err := fmt.Fprintln(c.in, command); err != nil {
		return 0, err
	}
	for {
		line, err := c.out.ReadString('\n')
		if err != nil {
			return 0, err
		}
		if n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64); err == nil {
			return n, nil // anything else is a server's own log
		}
	}
}

// obey answers the parent's questions in the child.
func obey() {
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch in.Text() {
		case "heap":
			var m runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&m)
			fmt.Println(m.HeapAlloc + m.StackInuse)
		case "resident":
			debug.FreeOSMemory()
			debug.FreeOSMemory() // what the first one's finalizers let go
			fmt.Println(resident())
		}
	}
	os.Exit(0)
}

// resident is the process's anonymous memory in bytes. smaps_rollup walks the page tables; the figures in status are
// kept a processor and may lag by more than what is to be measured.
func resident() int64 {
	text, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		return -1
	}
	for _, line := range strings.Split(string(text), "\n") {
		if kb, ok := strings.CutPrefix(line, "Anonymous:"); ok {
			n, _ := strconv.ParseInt(strings.Fields(kb)[0], 10, 64)
			return n << 10
		}
	}
	return -1
}

// processor is the time the child has spent on processors so far.
func (c *child) processor() time.Duration {
	var total time.Duration
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", c.cmd.Process.Pid))
	for _, t := range tasks {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/schedstat", c.cmd.Process.Pid, t.Name()))
		if err != nil {
			continue
		}
		if f := strings.Fields(string(text)); len(f) > 0 {
			ns, _ := strconv.ParseInt(f[0], 10, 64)
			total += time.Duration(ns)
		}
	}
	return total
}
