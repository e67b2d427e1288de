package test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"syncgate/internal/harness/harnesstest"
)

// browser is one tab of a headless Chromium, driven by the DevTools protocol over a pair of pipes.
type browser struct {
	t       testing.TB
	to      io.Writer
	from    *bufio.Reader
	session string
	last    int
	errors  []string // of the page's scripts and of its policy
}

// openBrowser starts Chromium until the test ends. Where it is not installed the test is skipped.
func openBrowser(t testing.TB) *browser {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("chromium is not installed; `make test-deps` as root installs it")
	}
	in, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), harnesstest.Patience)
	cmd := exec.CommandContext(ctx, program, "--headless=new", "--remote-debugging-pipe", "--no-sandbox",
		"--disable-gpu",
		"--no-first-run", "--disable-extensions", "--disable-background-networking", "--hide-scrollbars", "--lang=en",
		"--user-data-dir="+t.TempDir(), "about:blank")
	cmd.ExtraFiles = []*os.File{in, out} // 3 and 4
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = in.Close(), out.Close() // Chromium has them
	b := &browser{t: t, to: to, from: bufio.NewReader(from)}
	t.Cleanup(func() {
		b.session = ""
		b.try("Browser.close", nil, nil)
		_ = cmd.Wait() // it may have been killed
		cancel()
		_, _ = to.Close(), from.Close()
	})
	var target struct {
		TargetID  string
		SessionID string
	}
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &target)
	b.session = target.SessionID
	b.call("Page.enable", nil, nil)
	b.call("Runtime.enable", nil, nil)
	b.call("Log.enable", nil, nil)
	return b
}

// call runs a command of the protocol and reads its result.
func (b *browser) call(method string, params map[string]any, result any) {
	b.t.Helper()
	if err := b.try(method, params, result); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
}

func (b *browser) try(method string, params map[string]any, result any) error {
	b.last++
	message := map[string]any{"id": b.last, "method": method, "params": params}
	if b.session != "" {
		message["sessionId"] = b.session
	}
	text, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if _, err := b.to.Write(append(text, 0)); err != nil {
		return err
	}
	for {
		text, err := b.from.ReadBytes(0)
		if err != nil {
			return fmt.Errorf("chromium has ended: %w", err)
		}
		var reply struct {
			ID     int
			Method string
			Params json.RawMessage
			Result json.RawMessage
			Error  *struct{ Message string }
		}
		if err := json.Unmarshal(text[:len(text)-1], &reply); err != nil {
			return err
		}
		switch {
		case reply.Method == "Runtime.exceptionThrown" || reply.Method == "Log.entryAdded":
			b.errors = append(b.errors, string(reply.Params))
		case reply.ID != b.last:
		case reply.Error != nil:
			return fmt.Errorf("%s", reply.Error.Message)
		case result == nil:
			return nil
		default:
			return json.Unmarshal(reply.Result, result)
		}
	}
}

// eval runs JavaScript, waits when its value is a promise, and reads the value into v, which may be nil.
func (b *browser) eval(script string, v any) {
	b.t.Helper()
	var done struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	b.call("Runtime.evaluate", map[string]any{"expression": script, "awaitPromise": true, "returnByValue": true}, &done)
	if e := done.ExceptionDetails; e != nil {
		b.t.Fatalf("%s %s in %.300s", e.Text, e.Exception.Description, script)
	}
	if v != nil {
		if err := json.Unmarshal(done.Result.Value, v); err != nil {
			b.t.Fatalf("%v in the value %s of %s", err, done.Result.Value, script)
		}
	}
}

// wait waits until a condition holds in the page.
func (b *browser) wait(condition string) {
	b.t.Helper()
	var held bool
	b.eval(fmt.Sprintf(`new Promise(done => { const end = Date.now() + %d; const look = () => {
		let is = false; try { is = !!(%s) } catch (e) {}
		is || Date.now() > end ? done(is) : setTimeout(look, 10) }; look() })`, 30_000, condition), &held)
	if !held {
		var text string
		b.eval("document.body.innerText", &text)
		b.t.Fatalf("not within 30 s: %s\nerrors: %v\n%s", condition, b.errors, text)
	}
}

// open goes to an address and waits until the page has shown what it is about.
func (b *browser) open(url string) {
	b.t.Helper()
	b.call("Page.navigate", map[string]any{"url": "about:blank"}, nil)
	b.call("Page.navigate", map[string]any{"url": url}, nil)
	b.wait("performance.getEntriesByName('shown').length")
}

// size makes the page this wide and high, in pixels, light or dark.
func (b *browser) size(width, height int, scheme string) {
	b.t.Helper()
	b.call("Emulation.setDeviceMetricsOverride",
		map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}, nil)
	b.call("Emulation.setEmulatedMedia",
		map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// shot writes what is seen to a file of SYNCGATE_TEST_SCREENSHOTS, when that names a folder.
func (b *browser) shot(name string) {
	b.t.Helper()
	dir := os.Getenv("SYNCGATE_TEST_SCREENSHOTS")
	if dir == "" {
		return
	}
	var shot struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{"format": "png"}, &shot)
	png, err := base64.StdEncoding.DecodeString(shot.Data)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// key presses a key as a person does.
func (b *browser) key(key string, code int) {
	b.t.Helper()
	for _, kind := range []string{"keyDown", "keyUp"} {
		b.call("Input.dispatchKeyEvent",
			map[string]any{"type": kind, "key": key, "text": string(rune(code)), "windowsVirtualKeyCode": code}, nil)
	}
}

// since is how long a page took, from the navigation until it had shown what it is about.
func (b *browser) since() time.Duration {
	b.t.Helper()
	var ms float64
	b.eval("performance.getEntriesByName('shown')[0].startTime", &ms)
	return time.Duration(ms * float64(time.Millisecond))
}
