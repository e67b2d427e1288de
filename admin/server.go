package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"syncgate/internal/limit"
	"syncgate/store"
)

const (
	checkTimeout    = 2 * time.Second  // of a health check
	writeTimeout    = 30 * time.Second // of one answer, or of one line of a stream
	shutdownTimeout = 2 * time.Second  // of requests in progress at the end
	maxTails        = 64               // readers of the log at once
)

// Options of a Server. Of Address, Socket and Group each may be empty, and a number that is zero takes its default from
// Limits. The others are required.
type Options struct {
	Address      string // host:port of the page; port 0 takes a free one; empty: no page
	Token        string // asked for at Address; may be empty on a loopback address
	AllowActions bool   // at Address
	Socket       string // path of the control socket; empty: none
	Group        string // may open the control socket, beside its owner

	Silent time.Duration // how long a point may be away before that is a problem
	MaxLag time.Duration // how old a row may be that a point has not sent before that is a problem

	Program  string       // name and version
	Store    *store.Store // of points, rules and quarantine
	Gateway  Gateway
	Gatherer prometheus.Gatherer         // what /metrics shows
	Log      *Log                        // what /api/log shows; the log must be written to it
	Live     func() error                // /livez: why the process should be restarted, or nil
	Ready    func(context.Context) error // /readyz: why it should get no work now, or nil; heeds its context
	ErrorLog io.Writer                   // takes panics in a handler and failing accepts
}

// Limits are the defaults and bounds of the options.
func (o *Options) Limits() []limit.Limit {
	return []limit.Limit{
		limit.Time("Silent", &o.Silent, 10*time.Minute, time.Second, 30*24*time.Hour),
		limit.Time("MaxLag", &o.MaxLag, 5*time.Minute, time.Second, 30*24*time.Hour),
	}
}

// Server is the admin surface. It listens from New on and answers from Run on.
type Server struct {
	options Options
	started time.Time
	page    net.Listener // nil: none
	socket  net.Listener // nil: none
	cache   cache
	history history
}

// New binds both listeners, so that a bad address is known before anything starts. Run must be called: it alone closes
// them.
func New(o Options) (*Server, error) {
	if o.Store == nil || o.Gatherer == nil || o.Log == nil || o.Live == nil || o.Ready == nil || o.ErrorLog == nil {
		return nil, errors.New("admin: Store, Gatherer, Log, Live, Ready and ErrorLog are required")
	}
	if err := limit.Fill("admin", o.Limits()); err != nil {
		return nil, err
	}
	s := &Server{options: o, started: time.Now()}
	var err error
	if o.Address != "" {
		if s.page, err = net.Listen("tcp", o.Address); err != nil {
			return nil, fmt.Errorf("admin: %w", err)
		}
		if o.Token == "" && !s.loopback() {
			_ = s.page.Close() // the error is another
			return nil, fmt.Errorf("admin: %s can be reached from other hosts and needs a token", s.page.Addr())
		}
	}
	if o.Socket != "" {
		if s.socket, err = listenSocket(o.Socket, o.Group); err != nil {
			if s.page != nil {
				_ = s.page.Close() // the error is another
			}
			return nil, fmt.Errorf("admin: control socket %s: %w", o.Socket, err)
		}
	}
	return s, nil
}

func (s *Server) loopback() bool {
	addr, ok := s.page.Addr().(*net.TCPAddr)
	return ok && addr.IP.IsLoopback()
}

// Addr is the page's address, with the port taken; nil when there is no page.
func (s *Server) Addr() net.Addr {
	if s.page == nil {
		return nil
	}
	return s.page.Addr()
}

// Run serves until ctx ends, then ends the streams, waits shortly for other requests, and returns nil.
func (s *Server) Run(ctx context.Context) error {
	routes := s.routes()
	served := make(chan error, 2)
	var all []*http.Server
	serve := func(l net.Listener, h http.Handler) {
		srv := &http.Server{
			Handler:           h,
			ReadHeaderTimeout: 5 * time.Second,
			WriteTimeout:      writeTimeout,
			IdleTimeout:       time.Minute,
			MaxHeaderBytes:    8 << 10,
			ErrorLog:          log.New(s.options.ErrorLog, "admin: ", 0),
			BaseContext:       func(net.Listener) context.Context { return ctx }, // ends streams
		}
		all = append(all, srv)
		go func() { served <- srv.Serve(l) }()
	}
	if s.page != nil {
		serve(s.page, s.guard(routes))
	}
	if s.socket != nil {
		serve(s.socket, trust(routes))
	}
	sampled := make(chan struct{})
	sampling, stop := context.WithCancel(ctx)
	go func() { s.sample(sampling); close(sampled) }()

	var err error
	select {
	case err = <-served:
	case <-ctx.Done():
		err = http.ErrServerClosed
		served <- err // takes the place of the one that was received
	}
	stop()
	<-sampled
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	for _, srv := range all {
		if srv.Shutdown(end) != nil {
			_ = srv.Close() // cuts off those that are left
		}
	}
	for range all[min(1, len(all)):] {
		if next := <-served; !errors.Is(next, http.ErrServerClosed) {
			err = next
		}
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("admin: %w", err)
	}
	return nil
}

func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	pageFiles(mux)
	s.api(mux)
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

// trusted is the key of a request's context when actions are allowed to who sent it.
type trusted struct{}

// trust allows actions.
func trust(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), trusted{}, true)))
	})
}

// policy lets the page load its own files and nothing else, and lets no script make markup of text.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"frame-ancestors 'none'; form-action 'none'; base-uri 'none'; require-trusted-types-for 'script'; " +
	"trusted-types 'none'"

// guard stands before the routes at the page's address.
func (s *Server) guard(next http.Handler) http.Handler {
	next = http.NewCrossOriginProtection().Handler(next)
	if s.options.AllowActions {
		next = trust(next)
	}
	loopback := s.loopback()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		site := r.Header.Get("Sec-Fetch-Site")
		switch {
		case loopback && !plainHost(r.Host):
			// A page elsewhere may have its own name resolve to this address.
			fail(w, http.StatusMisdirectedRequest, "ask for it by address or as localhost")
		case site == "cross-site" && r.Header.Get("Sec-Fetch-Mode") != "navigate":
			fail(w, http.StatusForbidden, "another site's page asked for it")
		case s.options.Token != "" && !health(r.URL.Path) && !s.knows(r):
			h.Set("WWW-Authenticate",
				`Basic realm="syncgate: any name, and the token as the password", charset="UTF-8"`)
			fail(w, http.StatusUnauthorized, "the token is missing or wrong; it is the setting admin.token")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// health reports whether a path is a check, which has no token: who runs the process has none.
func health(path string) bool { return path == "/livez" || path == "/readyz" || path == "/healthz" }

// knows reports whether a request has the token: as a browser's password, or as a bearer token.
func (s *Server) knows(r *http.Request) bool {
	_, token, ok := r.BasicAuth()
	if !ok {
		if token, ok = strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); !ok {
			return false
		}
	}
	given, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(s.options.Token))
	return subtle.ConstantTimeCompare(given[:], want[:]) == 1
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
