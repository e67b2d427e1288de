// Command reactor measures the reactor's echo beside gnet's, netpoll's and plain net's: the same frames, the same load,
// one server after the other in turns, and prints the tables of docs/performance.md.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	var (
		serve = flag.String("serve", "", "serve as this server (used by the command itself)")
		addr  = flag.String("addr", "", "address to serve")
		names = flag.String("servers", "reactor,gnet,gnet-batched,netpoll,net",
			"servers, in the order of their turns")
		sizes   = flag.String("sizes", "64,1024,16384", "body sizes in bytes")
		conns   = flag.String("conns", "1,64,1000,8000", "numbers of connections")
		depths  = flag.String("pipelined", "1,16", "frames sent at once")
		rounds  = flag.Int("rounds", 5, "turns each server has in every cell")
		period  = flag.Duration("period", 500*time.Millisecond, "measured time of a turn")
		warmUp  = flag.Duration("warmup", 200*time.Millisecond, "time before it")
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
	fmt.Printf("%s, %s, GOMAXPROCS %d; %d turns of %v each\n\n", runtime.Version(), kernel(), runtime.GOMAXPROCS(0),
		*rounds, *period)
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

// result is what one server did in a cell, turn by turn. The middle of the turns is reported, and as ratio the middle
// of the ratios within each round, so that other work on the machine, which falls on single turns, counts little.
type result struct {
	rate          []float64 // answers a second
	p50, p99, mil []float64 // microseconds; mil is p99.9
	cost          []float64 // processor seconds a million answers
	failed        error
}

func middle(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// ratio is the middle of a over b, round by round.
func ratio(a, b []float64) float64 {
	var ratios []float64
	for i := range a {
		ratios = append(ratios, a[i]/b[i])
	}
	return middle(ratios)
}

func (b *bench) header() {
	fmt.Println("| body | connections | pipelined | server | requests/s | p50 µs | p99 µs | p99.9 µs | CPU s/million |")
	fmt.Println("|-----:|-----:|-----:|:-----|-----:|-----:|-----:|-----:|-----:|")
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
	row := fmt.Sprintf("| %d | %d | %d |", c.body, c.conns, c.pipelined)
	ratios := row
	for i, name := range b.names {
		r, first := &results[i], &results[0]
		switch {
		case r.failed != nil:
			fmt.Printf("%s %s | %v | | | | |\n", row, name, r.failed)
		default:
			fmt.Printf("%s %s | %.0f | %.0f | %.0f | %.0f | %.2f |\n", row, name, middle(r.rate), middle(r.p50),
				middle(r.p99), middle(r.mil), middle(r.cost))
		}
		switch {
		case i == 0:
		case r.failed != nil || first.failed != nil:
			ratios += " – | – | – |"
		default:
			ratios += fmt.Sprintf(" %.2f | %.2f | %.2f |", ratio(first.rate, r.rate), ratio(first.p99, r.p99),
				ratio(first.cost, r.cost))
		}
	}
	b.ratios = append(b.ratios, ratios)
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
	micros := func(q float64) float64 { return float64(l.took.quantile(q).Nanoseconds()) / 1e3 }
	into.rate = append(into.rate, float64(answers)/elapsed.Seconds())
	into.p50, into.p99, into.mil = append(into.p50, micros(.5)), append(into.p99, micros(.99)),
		append(into.mil, micros(.999))
	into.cost = append(into.cost, (marks[1]-marks[0]).Seconds()/float64(answers)*1e6)
	return nil
}

// memory measures what an idle connection costs that has been used before: the memory of a server with n connections
// after each has had an answer, less that with one, both after a garbage collection; and what processor time they take
// to be left alone.
func (b *bench) memory(n int) error {
	fmt.Printf("\n| server | resident bytes per idle connection at %d | to first | live heap and stacks | processor "+
		"time of all of them, ms/s |\n|:-----|-----:|-----:|-----:|-----:|\n", n)
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
