// Package control is the client of a running server's control socket: the API that package admin describes.
package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
)

// ErrNotRunning means that no server serves the socket.
var ErrNotRunning = errors.New("the server is not running")

// Client asks the server behind a socket. A Client may be used by several goroutines.
type Client struct {
	path string
	http http.Client
}

// New makes a client. It connects when it is first used.
func New(socket string) *Client {
	c := &Client{path: socket}
	c.http.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	return c
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Get reads the answer to GET /api/path into v. query may be nil.
func (c *Client) Get(ctx context.Context, path string, query url.Values, v any) error {
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	body, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	return json.NewDecoder(body).Decode(v)
}

// Post sends POST /api/path with a body, nil for none, and reads the first line of the answer into v unless it is nil.
func (c *Client) Post(ctx context.Context, path string, body, v any) error {
	first := true
	return c.Stream(ctx, http.MethodPost, path, body, func(line json.RawMessage) error {
		if v == nil || !first {
			return nil
		}
		first = false
		return json.Unmarshal(line, v)
	})
}

// Stream calls f for each line of an answer, until the stream or ctx ends or f returns an error.
func (c *Client) Stream(ctx context.Context, method, path string, body any, f func(line json.RawMessage) error) error {
	lines, err := c.do(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer lines.Close()
	for d := json.NewDecoder(lines); ; {
		var line json.RawMessage
		switch err := d.Decode(&line); {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("the server's answer broke off: %w", err)
		}
		var failed struct{ Error string }
		if json.Unmarshal(line, &failed) == nil && failed.Error != "" && bytes.HasPrefix(line, []byte(`{"error":`)) {
			return errors.New(failed.Error)
		}
		if err := f(line); err != nil {
			return err
		}
	}
}

// do sends a request. The error of an answer that is not 200 is the server's text.
func (c *Client) do(ctx context.Context, method, path string, body any) (io.ReadCloser, error) {
	var b bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&b).Encode(body); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://syncgate/api/"+path, &b)
	if err != nil {
		return nil, err
	}
	res, err := c.http.Do(req)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%w (nothing answers at %s)", ErrNotRunning, c.path)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("%s: not allowed; run as the server's account, "+
			"or in the group of admin.socket_group", c.path)
	case err != nil:
		return nil, err
	case res.StatusCode == http.StatusOK:
		return res.Body, nil
	}
	defer res.Body.Close()
	var failed struct{ Error string }
	if json.NewDecoder(res.Body).Decode(&failed) != nil || failed.Error == "" {
		failed.Error = "the server answers " + res.Status
	}
	return nil, errors.New(failed.Error)
}
