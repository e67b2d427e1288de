package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"syncgate/agent"
	"syncgate/cmd/internal/config"
)

const (
	metricsTimeout  = 5 * time.Second // of one request
	metricsRequests = 4               // at once
	metricsRequest  = 8 << 10         // bytes of a request at most
)

// listenMetrics listens on a loopback address; nil without one.
func listenMetrics(address string) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	at, err := netip.ParseAddrPort(address)
	if err == nil && !at.Addr().IsLoopback() {
		err = errors.New("is not a loopback address, such as 127.0.0.1:9367; there is no password")
	}
	var l net.Listener
	if err == nil {
		l, err = net.Listen("tcp", address)
	}
	if err != nil {
		return nil, &config.Error{Place: "metrics", Problem: err.Error()}
	}
	return l, nil
}

// serveMetrics answers GET /metrics, /livez and /readyz until ctx ends. It speaks as much HTTP as that takes: net/http
// would add megabytes to the agent.
func serveMetrics(ctx context.Context, l net.Listener, a *agent.Agent, log zerolog.Logger) {
	log.Info().Stringer("address", l.Addr()).Msg("metrics")
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	free := make(chan struct{}, metricsRequests)
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			time.Sleep(time.Second) // such as too many open files
			continue
		}
		free <- struct{}{}
		go func() {
			defer func() { _ = conn.Close(); <-free }()
			ctx, cancel := context.WithTimeout(ctx, metricsTimeout)
			defer cancel()
			_ = conn.SetDeadline(time.Now().Add(metricsTimeout))
			answerHTTP(ctx, conn, a)
		}()
	}
}

// answerHTTP reads one request and answers it.
func answerHTTP(ctx context.Context, conn io.ReadWriter, a *agent.Agent) {
	r := bufio.NewReader(io.LimitReader(conn, metricsRequest))
	request, err := r.ReadString('\n')
	for line := request; err == nil && strings.TrimSpace(line) != ""; {
		line, err = r.ReadString('\n')
	}
	if err != nil {
		return
	}
	method, path, _ := strings.Cut(request, " ")
	path, _, _ = strings.Cut(path, " ")
	status, body := "200 OK", bytes.NewBufferString("ok\n")
	switch {
	case method != "GET":
		status, err = "405 Method Not Allowed", errors.New("only GET")
	case path == "/metrics":
		body.Reset()
		err = a.WriteMetrics(ctx, body)
	case path == "/livez":
		err = a.CheckLive()
	case path == "/readyz":
		err = a.CheckReady(ctx)
	default:
		status, err = "404 Not Found", errors.New("there are /metrics, /livez and /readyz")
	}
	if err != nil {
		if status == "200 OK" {
			status = "503 Service Unavailable"
		}
		body = bytes.NewBufferString(err.Error() + "\n")
	}
	fmt.Fprintf(conn, "HTTP/1.1 %s\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: %d\r\n"+
		"Connection: close\r\n\r\n", status, body.Len())
	_, _ = body.WriteTo(conn) // the reader may have left
}
