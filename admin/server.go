package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	checkTimeout    = 2 * time.Second  // of a health check
	writeTimeout    = 30 * time.Second // of one answer, or of one log line
	shutdownTimeout = 2 * time.Second  // of requests in progress at the end
	maxTails        = 16               // readers of /log at once
)

// Options of a Server. All are required.
type Options struct {
	Address  string                      // host:port; port 0 takes a free one
	Gatherer prometheus.Gatherer         // what /metrics shows
	Status   func() Status               // called for each view of the page; must be quick
	Log      *Log                        // what /log shows; the log must be written to it
	Live     func() error                // /livez: why the process should be restarted, or nil
	Ready    func(context.Context) error // /readyz: why it should get no work now, or nil; heeds its context
	ErrorLog io.Writer                   // takes panics in a handler and failing accepts
}

// Server is the admin surface. It listens from New on and answers from Run on.
type Server struct {
	options  Options
	listener net.Listener
	http     http.Server
}

// New binds the address, so that a bad one is known before anything starts. Run must be called: it alone closes the
// listener.
func New(o Options) (*Server, error) {
	if o.Gatherer == nil || o.Status == nil || o.Log == nil || o.Live == nil || o.Ready == nil || o.ErrorLog == nil {
		return nil, errors.New("admin: Gatherer, Status, Log, Live, Ready and ErrorLog are required")
	}
	listener, err := net.Listen("tcp", o.Address)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	s := &Server{options: o, listener: listener}
	s.http = http.Server{
		Handler:           s.guard(s.routes()),
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          log.New(o.ErrorLog, "admin: ", 0),
	}
	return s, nil
}

// Addr is the address bound, with the port taken.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Run serves until ctx ends, then ends the log's readers, waits shortly for other requests, and returns nil.
func (s *Server) Run(ctx context.Context) error {
	s.http.BaseContext = func(net.Listener) context.Context { return ctx } // ends /log
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.listener) }()
	select {
	case err := <-served:
		_ = s.http.Close() // err is the failure to report
		return fmt.Errorf("admin: %w", err)
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if s.http.Shutdown(end) != nil {
		_ = s.http.Close() // cuts off those that are left
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin: %w", err)
	}
	return nil
}

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.page)
	mux.HandleFunc("GET /status.json", s.statusJSON)
	mux.HandleFunc("GET /log", s.log)
	live := check(func(context.Context) error { return s.options.Live() })
	mux.Handle("GET /livez", live)
	mux.Handle("GET /healthz", live)
	mux.Handle("GET /readyz", check(s.options.Ready))
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.options.Gatherer, promhttp.HandlerOpts{
		MaxRequestsInFlight: 4,
		EnableOpenMetrics:   true,
	}))
	return mux
}

// guard sets the headers every answer has, and refuses names on loopback.
func (s *Server) guard(next http.Handler) http.Handler {
	loopback := false
	if addr, ok := s.listener.Addr().(*net.TCPAddr); ok {
		loopback = addr.IP.IsLoopback()
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if loopback && !plainHost(r.Host) {
			http.Error(w, "ask for it by address or as localhost", http.StatusMisdirectedRequest)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; "+
			"frame-ancestors 'none'; form-action 'none'; base-uri 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// plainHost tells whether a Host header is an address or localhost.
func plainHost(hostport string) bool {
	if _, err := netip.ParseAddrPort(hostport); err == nil {
		return true
	}
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = hostport
	}
	if host == "localhost" {
		return true
	}
	_, err = netip.ParseAddr(host)
	return err == nil
}

func check(f func(context.Context) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), checkTimeout)
		defer cancel()
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if err := f(ctx); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, err)
			return
		}
		fmt.Fprintln(w, "ok")
	})
}

func (s *Server) statusJSON(w http.ResponseWriter, _ *http.Request) {
	b, err := json.MarshalIndent(s.options.Status(), "", "  ")
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(b, '\n')) // the reader may have left
}
