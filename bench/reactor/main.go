// Command reactor measures the reactor's echo beside gnet's, netpoll's and plain net's: the same frames, the same load,
// one server after the other in turns, and prints the tables of docs/performance.md.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"
)

func main() {
	var (
		serve   = flag.String("serve", "", "serve as this server (used by the command itself)")
		addr    = flag.String("addr", "", "address to serve")
		names   = flag.String("servers", "reactor,gnet,netpoll,net", "servers, in the order of their turns")
		sizes   = flag.String("sizes", "64,1024,16384", "body sizes in bytes")
		conns   = flag.String("conns", "1,64,1000,8000", "numbers of connections")
		depths  = flag.String("pipelined", "1,16", "frames sent at once")
		rounds  = flag.Int("rounds", 2, "turns each server has in every cell")
		period  = flag.Duration("period", 1500*time.Millisecond, "measured time of a turn")
		warmUp  = flag.Duration("warmup", 300*time.Millisecond, "time before it")
		idle    = flag.Int("idle", 8000, "idle connections whose memory is measured; 0: none")
		inBurst = flag.Int("most", 512<<20, "skip cells with more bytes than this in flight")
	)
	flag.Parse()
	if *serve != "" {
		go obey()
		fail(servers[*serve](*addr))
		return
	}
	b := bench{names: strings.Split(*names, ","), rounds: *rounds, period: *period, warmUp: *warmUp}
	for _, name := range b.names {
		if servers[name] == nil {
			fail(fmt.Errorf("no server %q", name))
		}
	}
	fmt.Printf("%s, %s, GOMAXPROCS %d; %d turns of %v each\n\n", runtime.Version(), kernel(), runtime.GOMAXPROCS(0), *rounds, *period)
	b.header()
	for _, body := range numbers(*sizes) {
		for _, n := range numbers(*conns) {
			for _, depth := range numbers(*depths) {
				if c := (cell{body, n, depth}); n*depth*(body+headerSize+trailerSize) <= *inBurst {
					b.measure(c)
				}
			}
		}
	}
	b.summary()
	if *idle > 0 {
		fail(b.memory(*idle))
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func numbers(list string) (ns []int) {
	for _, s := range strings.Split(list, ",") {
		n, err := strconv.Atoi(s)
		fail(err)
		ns = append(ns, n)
	}
	return ns
}

func kernel() string {
	text, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	return "Linux " + strings.TrimSpace(string(text))
}

type bench struct {
	names          []string
	rounds         int
	period, warmUp time.Duration
	ratios         []string // rows of the summary
}

// result is what one server did in all its turns in a cell.
type result struct {
	answers   int
	elapsed   time.Duration
	processor time.Duration
	took      histogram
	failed    error
}

func (r *result) rate() float64 { return float64(r.answers) / r.elapsed.Seconds() }

// cost is the processor seconds a million answers take.
func (r *result) cost() float64 { return r.processor.Seconds() / float64(r.answers) * 1e6 }

func (b *bench) header() {
	fmt.Println("| body | connections | pipelined | server | requests/s | p50 µs | p99 µs | p99.9 µs | CPU s/million | rate to first | p99 to first |")
	fmt.Println("|-----:|-----:|-----:|:-----|-----:|-----:|-----:|-----:|-----:|-----:|-----:|")
}

// measure gives the servers their turns in one cell and prints its rows. A server that fails there gets the reason.
func (b *bench) measure(c cell) {
	results := make([]result, len(b.names))
	for range b.rounds {
		for i, name := range b.names {
			if err := b.turn(name, c, &results[i]); err != nil {
				results[i].failed = err
			}
		}
	}
	first := &results[0]
	for i, name := range b.names {
		r := &results[i]
		if r.failed != nil {
			fmt.Printf("| %d | %d | %d | %s | %v | | | | | | |\n", c.body, c.conns, c.pipelined, name, r.failed)
			continue
		}
		fmt.Printf("| %d | %d | %d | %s | %.0f | %s | %s | %s | %.2f | %.2f | %.2f |\n", c.body, c.conns, c.pipelined, name, r.rate(),
			micros(r.took.quantile(.5)), micros(r.took.quantile(.99)), micros(r.took.quantile(.999)),
			r.cost(), r.rate()/first.rate(),
			float64(r.took.quantile(.99))/float64(first.took.quantile(.99)))
	}
	row := fmt.Sprintf("| %d | %d | %d |", c.body, c.conns, c.pipelined)
	for i := range results[1:] {
		if r := &results[1+i]; first.failed == nil && r.failed == nil {
			row += fmt.Sprintf(" %.2f | %.2f | %.2f |", first.rate()/r.rate(),
				float64(first.took.quantile(.99))/float64(r.took.quantile(.99)), first.cost()/r.cost())
		} else {
			row += " – | – | – |"
		}
	}
	b.ratios = append(b.ratios, row)
}

// summary sets the first server against each of the others: requests a second (more is better for the first), p99 and
// processor time a request (less is).
func (b *bench) summary() {
	fmt.Printf("\n| body | connections | pipelined |")
	for _, name := range b.names[1:] {
		fmt.Printf(" rate to %s | p99 | CPU |", name)
	}
	fmt.Printf("\n|-----:|-----:|-----:|%s\n", strings.Repeat("-----:|-----:|-----:|", len(b.names)-1))
	for _, row := range b.ratios {
		fmt.Println(row)
	}
}

func micros(d time.Duration) string { return strconv.FormatFloat(float64(d)/1e3, 'f', 0, 64) }

func (b *bench) turn(name string, c cell, into *result) error {
	server, err := spawn(name)
	if err != nil {
		return err
	}
	defer server.end()
	l, err := connect(server.addr, c)
	if l != nil {
		defer l.close()
	}
	if err != nil {
		return err
	}
	var marks []time.Duration
	answers, elapsed, err := l.run(b.warmUp, b.period, func() { marks = append(marks, server.processor()) })
	if err != nil {
		return err
	}
	if len(marks) != 2 {
		return errors.New("no answer within the measured time")
	}
	into.answers += answers
	into.elapsed += elapsed
	into.processor += marks[1] - marks[0]
	into.took.merge(&l.took)
	return nil
}

// memory measures what an idle connection costs that has been used before: the memory of a server with n connections
// after each has had an answer, less that with one, both after a garbage collection; and what processor time they take
// to be left alone.
func (b *bench) memory(n int) error {
	fmt.Printf("\n| server | resident bytes per idle connection at %d | to first | live heap and stacks | processor time of all of them, ms/s |\n|:-----|-----:|-----:|-----:|-----:|\n", n)
	first := 0.0
	for i, name := range b.names {
		rss, heap, work, err := b.idle(name, n)
		if err != nil {
			return fmt.Errorf("%s, idle: %w", name, err)
		}
		if i == 0 {
			first = rss
		}
		fmt.Printf("| %s | %.0f | %.1f | %.0f | %.2f |\n", name, rss, rss/first, heap, work)
	}
	return nil
}

func (b *bench) idle(name string, n int) (rss, heap, work float64, err error) {
	server, err := spawn(name)
	if err != nil {
		return 0, 0, 0, err
	}
	defer server.end()
	var at [2][2]int64
	if err := warm(server.addr); err != nil {
		return 0, 0, 0, err
	}
	for i, conns := range []int{1, n} {
		l, err := connect(server.addr, cell{body: 1024, conns: conns, pipelined: 1})
		if l != nil {
			defer l.close()
		}
		if err != nil {
			return 0, 0, 0, err
		}
		if _, _, err := l.run(0, 500*time.Millisecond, func() {}); err != nil {
			return 0, 0, 0, err
		}
		for j, what := range []string{"resident", "heap"} {
			if at[i][j], err = server.ask(what); err != nil {
				return 0, 0, 0, err
			}
		}
	}
	const rest = 3 * time.Second
	before := server.processor()
	time.Sleep(rest)
	work = float64((server.processor() - before).Microseconds()) / 1e3 / rest.Seconds()
	return float64(at[1][0]-at[0][0]) / float64(n), float64(at[1][1]-at[0][1]) / float64(n), work, nil
}

// warm has the server work once, so that the threads and workers every Go process comes to have are not counted as
// the price of connections.
func warm(addr string) error {
	l, err := connect(addr, cell{body: 1024, conns: 256, pipelined: 1})
	if l != nil {
		defer l.close()
	}
	if err == nil {
		_, _, err = l.run(0, 500*time.Millisecond, func() {})
	}
	return err
}
