package reactor

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childEnv has the test binary be the child of TestDescriptorsExhausted, with that many descriptors.
const childEnv = "REACTOR_TEST_CHILD"

// soak is the environment variable that has the heavy tests run at their full size.
const soak = "REACTOR_SOAK"

// scaled is how much of something a test does: little in an ordinary run, all of it in a soak.
func scaled(ordinary, full int) int {
	if os.Getenv(soak) != "" {
		return full
	}
	return ordinary
}

// signalStorm sends this process a thousand signals a second.
func signalStorm(stop <-chan struct{}) {
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, unix.SIGUSR1)
	defer signal.Stop(caught)
	every := time.NewTicker(time.Millisecond)
	defer every.Stop()
	for {
		select {
		case <-stop:
			return
		case <-every.C:
			unix.Kill(os.Getpid(), unix.SIGUSR1)
		}
	}
}

// Completions race each other, the loop's falling asleep and the end of connections; a lost wake-up would leave a
// client waiting for ever.
func TestRacingCompletions(t *testing.T) {
	const conns, depth = 50, 40
	rounds := scaled(30, 500) // 500: a million completions
	jobs := make(chan func(), conns*depth)
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for job := range jobs {
				job()
			}
		})
	}
	s := serve(t, hooks{frame: func(c *Conn, b []byte) error {
		c.Begin()
		r, id, b := c.loop().reactor, c.ID(), bytes.Clone(b)
		jobs <- func() { r.Send(id, b, true) }
		return nil
	}}, func(o *Options) { o.Listeners[0].MaxInFlight = depth })
	var clients sync.WaitGroup
	for range conns {
		c := s.dial(t)
		c.SetDeadline(time.Time{})
		clients.Go(func() {
			all, bodies := numbered(depth)
			in := bufio.NewReader(c)
			for range rounds {
				c.Write(all)
				left := map[string]bool{}
				for range depth {
					c.SetReadDeadline(time.Now().Add(testTimeout))
					got, err := readFrame(in)
					if err != nil {
						t.Errorf("stranded: %v", err)
						return
					}
					left[string(got)] = true
				}
				if len(left) != len(bodies) {
					t.Errorf("%d different replies to %d requests", len(left), len(bodies))
					return
				}
			}
		})
	}
	clients.Wait()
	s.stop(t)
	close(jobs)
	workers.Wait()
}

// Thousands of idle connections must not slow the few that work.
func TestIdleCrowd(t *testing.T) {
	idle, working, rounds := scaled(1000, 8000), scaled(16, 64), scaled(100, 2000)
	s := serve(t, hooks{}, nil)
	p99 := func() time.Duration {
		var mu sync.Mutex
		var took []time.Duration
		var clients sync.WaitGroup
		for range working {
			c := s.dial(t)
			clients.Go(func() {
				defer c.Close()
				for range rounds {
					start := time.Now()
					send(t, c, frame([]byte("work")))
					expect(t, c, "work")
					mu.Lock()
					took = append(took, time.Since(start))
					mu.Unlock()
				}
			})
		}
		clients.Wait()
		slices.Sort(took)
		return took[len(took)*99/100]
	}
	alone := p99()
	for range idle {
		c := s.dial(t)
		send(t, c, frame(nil))
		expect(t, c, "")
	}
	most := 5*alone + 50*time.Millisecond
	crowded := p99()
	for tries := 1; crowded > most && tries < 5; tries++ { // other programs only make it longer
		crowded = min(crowded, p99())
	}
	t.Logf("p99 of %d working: %v alone, %v beside %d idle", working, alone, crowded, idle)
	if crowded > most {
		t.Errorf("p99 rose from %v to %v", alone, crowded)
	}
}

// TestDescriptorsExhausted lets a child process run out of descriptors.
func TestDescriptorsExhausted(t *testing.T) {
	const limit, clients = 64, 120
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), fmt.Sprintf("%s=%d", childEnv, limit))
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer in.Close()
	lines := bufio.NewScanner(out)
	ask := func(question string) (answer string) {
		fmt.Fprintln(in, question)
		if !lines.Scan() {
			t.Fatalf("the child has ended: %v", lines.Err())
		}
		return lines.Text()
	}
	addr := ask("address")
	var conns []net.Conn
	for range clients { // the kernel completes them all; the child can accept only some
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(2 * testTimeout))
		conns = append(conns, c)
	}
	eventually(t, "accepting rests", func() bool { return ask("descriptors") != "0" })
	var accepted int
	if _, err := fmt.Sscan(ask("conns"), &accepted); err != nil || accepted == 0 || accepted >= limit {
		t.Fatalf("%d accepted, %v", accepted, err)
	}
	for _, c := range conns[:accepted] { // nobody who is connected notices
		send(t, c, frame([]byte("fine")))
		expect(t, c, "fine")
	}
	var before, after int
	fmt.Sscan(ask("turns"), &before)
	time.Sleep(500 * time.Millisecond) // that nothing happens can only be looked at
	fmt.Sscan(ask("turns"), &after)
	if turns := after - before; turns > 40 {
		t.Errorf("%d turns in half a second with nothing to do", turns)
	}
	// The others are served as soon as descriptors come free, without any new event on the listener.
	for i, c := range conns {
		send(t, c, frame([]byte("at last")))
		expect(t, c, "at last")
		if i < clients-accepted {
			c.Close()
		}
	}
}

// child is that process: an echo server that answers questions about itself on its standard input.
func child() int {
	var limit uint64
	fmt.Sscan(os.Getenv(childEnv), &limit)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	w := newWatcher()
	r, err := New(Options{Loops: 2, Observer: w,
		Listeners: []Listener{{Address: "127.0.0.1:0", Split: split, Handler: hooks{}}}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- r.Run(ctx) }()
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		switch strings.TrimSpace(in.Text()) {
		case "address":
			fmt.Println(r.Addrs()[0])
		case "descriptors":
			fmt.Println(w.refusal("descriptors"))
		case "conns":
			fmt.Println(r.Load().Conns)
		case "turns":
			n := uint64(0)
			for _, l := range r.loops {
				n += l.turns.Load()
			}
			fmt.Println(n)
		}
	}
	cancel()
	<-ended
	return 0
}
