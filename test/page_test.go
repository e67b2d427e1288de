package test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// hostilePoint is what somebody may call a point.
const hostilePoint = `<img src=x onerror=document.title='caught'>`

// page is a server with 5,000 points, of which one is real, with whatever can be wrong, and a browser that looks at it.
type page struct {
	*World
	*browser
	server *Process
	at     string
	sent   int // rows of hits
}

func newPage(t *testing.T) *page {
	t.Helper()
	p := &page{browser: openBrowser(t), World: New(t)}
	p.Point.Enrol(pointName)
	p.Centre.Must(`INSERT INTO sync_point (point_no, note, modern_seen_at) SELECT ` +
		`CONCAT('shop-', LPAD(seq, 4, '0')), 'row of shops',
		UTC_TIMESTAMP() - INTERVAL IF(seq % 1700 = 0, seq, 1) MINUTE FROM seq_1_to_4998`)
	p.Centre.Must("INSERT INTO sync_point (point_no, note) VALUES (?, ?)", hostilePoint, "not a tag")
	for _, db := range p.Databases() {
		db.Must("CREATE TABLE hits (id BIGINT PRIMARY KEY, url VARCHAR(190))")
	}
	p.Rule("server", "upload", "hits", "")
	p.Rule("client", "upload", "hits", "")
	p.Rule("server", "upload", "white_list", "## upside\nselect 1")
	p.Centre.Must(`INSERT INTO sync_quarantine (point_no, rule_id, sync_table, epoch, seq, row_no, row_values, `+
		`error_code, error_text)
		SELECT ?, 1, 'hits', 1, seq, 0, CONCAT('{"id": 90071992547409', 900 + seq, ', "url": "<b>', REPEAT('long', 60), '</b>"}'),
		1406, 'Data too long for column ''url'' at row 1' FROM seq_1_to_40`, pointName)
	p.Env = append(p.Env, "SYNCGATE_ADMIN_LISTEN=127.0.0.1:0", "SYNCGATE_ADMIN_ALLOW_ACTIONS=true")
	p.server = p.Serve()
	address, _ := p.server.WaitLog("status page")["address"].(string)
	p.at = "http://" + address
	p.Env = append(p.Env, "SYNCGATE_ADMIN_LISTEN="+address) // after a restart, too
	p.Point.Run()
	return p
}

// look opens a view, as a wide page unless size was called since.
func (p *page) look(view string) { p.browser.t.Helper(); p.open(p.at + "/#/" + view) }

// has waits until the view has a text.
func (p *page) has(text string) {
	p.browser.t.Helper()
	quoted, _ := json.Marshal(text) // a string has no error
	p.wait("document.getElementById('main').innerText.includes(" + string(quoted) + ")")
}

// press presses the first button with a text, as it is read to those who cannot see it.
func (p *page) press(within, text string) {
	p.browser.t.Helper()
	button := "[...document.querySelectorAll('" + within + " button')].find(b => (b.ariaLabel ?? " +
		"b.innerText).startsWith('" + text + "') && !b.disabled)"
	p.wait(button)
	p.eval(button+".click()", nil)
}

// send has the point send one more row.
func (p *page) send() {
	p.browser.t.Helper()
	p.sent++
	p.Point.Must("INSERT INTO hits VALUES (?, 'u')", p.sent)
}

// The page in a real browser: what it says first, what is live, what it does, and what it does not do.
func TestPage(t *testing.T) {
	p := newPage(t)
	p.size(1280, 900, "light")
	for _, part := range []struct {
		name string
		run  func(*testing.T, *page)
	}{
		{"quick", pageQuick}, {"problems", pageProblems}, {"hostile", pageHostile}, {"typing", pageTyping},
		{"log", pageLog}, {"sync", pageSync}, {"quarantine", pageQuarantine}, {"picture", pagePicture},
		{"accessible", pageAccessible}, {"narrow", pageNarrow},
	} {
		t.Run(part.name, func(t *testing.T) {
			p.browser.t = t
			part.run(t, p)
		})
	}
	p.browser.t = t
	for _, line := range p.errors {
		if !strings.Contains(line, "net::ERR_") { // while the server is restarted
			t.Errorf("the page has an error: %s", line)
		}
	}
}

// The bound is for a machine that does other work; SYNCGATE_TEST_QUICK=1 asks for the promised 100 ms.
func pageQuick(t *testing.T, p *page) {
	bound, best := 3*time.Second, time.Hour
	if os.Getenv("SYNCGATE_TEST_QUICK") != "" {
		bound = 100 * time.Millisecond
	}
	for n := 0; n < 10 && best > 100*time.Millisecond; n++ {
		p.look("points")
		best = min(best, p.since())
	}
	t.Logf("with 5,000 points shown after %v", best)
	if best > bound {
		t.Errorf("shown after %v, not within %v", best, bound)
	}
}

func pageProblems(t *testing.T, p *page) {
	p.look("")
	for _, text := range []string{"3 things need you", "1 rule not in force", "2 points silent for more than 10 min",
		"shop-3400", "40 rows in quarantine", "sync_control", "1 of 5,000"} {
		p.has(text)
	}
}

// What a point calls itself is text, wherever it is shown.
func pageHostile(t *testing.T, p *page) {
	p.look("points")
	p.has(hostilePoint)
	p.eval(`[...document.querySelectorAll('td a')].find(a => a.innerText.startsWith('<img')).click()`, nil)
	p.wait("document.querySelector('h1').innerText.includes('<img')")
	p.has("never connected")
	p.look("log?point=" + strings.ReplaceAll(hostilePoint, "<", "%3C"))
	p.wait("document.querySelector('input').value.startsWith('<img')")
	var caught bool
	p.eval("document.title === 'caught' || document.querySelectorAll('main img').length > 0", &caught)
	if caught {
		t.Error("a point's name is markup")
	}
}

// A refresh leaves the focus and what somebody types alone. A table is sorted with the keyboard.
func pageTyping(t *testing.T, p *page) {
	p.look("points")
	p.eval("document.querySelector('input[type=search]').focus()", nil)
	p.call("Input.insertText", map[string]any{"text": "shop-001"}, nil)
	p.wait("document.querySelectorAll('tbody tr').length === 10 && document.activeElement.value === 'shop-001'")
	p.eval("window.reads = performance.getEntriesByType('resource').length", nil)
	p.wait("performance.getEntriesByType('resource').length >= reads + 2") // it has been refreshed
	p.wait("document.activeElement.value === 'shop-001'")
	p.eval("document.querySelector('th button').focus()", nil)
	p.key("Enter", 13)
	p.wait("document.querySelector('tbody a').innerText === 'shop-0019' && " +
		"document.activeElement.closest('th').ariaSort === 'descending'")
}

// The log is live, can be paused, and goes on after a restart of the server.
func pageLog(t *testing.T, p *page) {
	p.look("log")
	p.wait("document.querySelector('h1').innerText.includes('live')")
	p.send()
	p.has("1 row in 1 request")
	p.press("form", "Pause")
	p.send()
	p.wait("document.querySelector('h1').innerText.includes('paused, 1 more')")
	p.press("form", "Go on")
	p.wait("document.querySelectorAll('.lines li').length === 2")
	p.server.Stop()
	p.wait("document.querySelector('header').innerText.includes('no answer')")
	p.server = p.Serve()
	p.send()
	p.wait("document.querySelectorAll('.lines li').length === 3")
}

// A person asks a point for its rows, and sees what it does about them.
func pageSync(t *testing.T, p *page) {
	p.look("points/" + pointName)
	p.has("syncgate-agent") // it has reported
	p.press("table", "Sync now: upload of hits")
	p.has("Done.")
	p.wait("document.querySelectorAll('.run li').length > 0 && document.querySelectorAll('.lines li .tag').length > 3")
	p.Centre.Eventually(1, "SELECT COUNT(*) > 0 FROM sync_log WHERE batches = 0 AND sync_table = 'hits'")
	p.shot("page-point")
}

// A row is edited and replayed; the others are dropped after a question.
func pageQuarantine(t *testing.T, p *page) {
	p.look("quarantine?rule=1")
	p.has("Data too long")
	p.has("9007199254740990") // more than a number of JavaScript holds
	p.press(".rows", "Edit")
	p.eval(`document.querySelector('input[name=url]').value = '"short"'`, nil)
	p.press(".rows", "Save")
	p.has("is saved. Replay applies it.")
	p.press(".rows", "Replay")
	p.has("The row applied.")
	p.Centre.Eventually(1, "SELECT COUNT(*) FROM hits WHERE id = 90071992547409901 AND url = 'short'")
	p.press("table", "Replay")
	p.has("0 applied. At least one stays")
	p.press("table", "Drop")
	p.press("dialog", "Drop")
	p.has("39 rows dropped.")
	p.Centre.Eventually(0, "SELECT COUNT(*) FROM sync_quarantine")
}

// pagePicture makes the README's picture of the first view, with an hour of figures that are made up: the test's server
// is seconds old.
func pagePicture(t *testing.T, p *page) {
	p.call("Page.addScriptToEvaluateOnNewDocument",
		map[string]any{"source": `{ const real = fetch; const wave = (i, n) => 1.4 + Math.sin(i / n) + ` +
			`Math.sin(i / 7) / 3;
		fetch = (url, o) => url !== "/api/history" ? real(url, o) : Promise.resolve(new Response(JSON.stringify(Array.from({length: 360}, (_, i) => ({
			at: new Date(Date.now() - (360 - i) * 1e4), up: 900 * wave(i, 40), down: 350 * wave(i, 23), p50: .004 * wave(i, 60), p99: .03 * wave(i, 17), lag: 4 * wave(i, 9)}))))) }`}, nil)
	p.look("")
	p.wait("document.querySelectorAll('svg .line').length === 5")
	p.eval(`document.querySelector('svg').dispatchEvent(new PointerEvent('pointermove', {clientX: 300, clientY: 500, `+
		`bubbles: true}))`, nil)
	p.wait("document.querySelectorAll('svg .cursor').length === 1")
	p.shot("page")
}

// axe finds nothing serious in any view, light and dark.
func pageAccessible(t *testing.T, p *page) {
	axe, err := os.ReadFile(filepath.Join("testdata", "axe", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	for _, scheme := range []string{"light", "dark"} {
		p.size(1280, 900, scheme)
		for _, view := range []string{"", "points", "points/" + pointName, "rules", "quarantine", "log"} {
			p.look(view)
			p.eval(string(axe), nil)
			var found []struct {
				ID, Impact, Help string
				Nodes            []struct{ HTML string }
			}
			only := "" // in the dark only the colours are others
			if scheme == "dark" {
				only = "runOnly: ['color-contrast'], "
			}
			p.eval("axe.run(document, {"+only+"resultTypes: ['violations']}).then(r => r.violations)", &found)
			for _, f := range found {
				if slices.Contains([]string{"serious", "critical"}, f.Impact) {
					t.Errorf("%s, %s: %s, %s: %.300s", view, scheme, f.Impact, f.Help, f.Nodes[0].HTML)
				}
			}
		}
	}
}

// On a telephone the first screen says what is wrong.
func pageNarrow(t *testing.T, p *page) {
	p.size(390, 800, "light")
	p.look("")
	var seen struct {
		Bottom, Width float64
		Text          string
	}
	p.eval(`({bottom: document.querySelector('.problems li').getBoundingClientRect().bottom, width: `+
		`document.documentElement.scrollWidth,
		text: document.querySelector('.problems li').innerText})`, &seen)
	if seen.Bottom > 800 || seen.Width > 390 || !strings.Contains(seen.Text, "1 rule not in force") {
		t.Errorf("at 390 px: %+v", seen)
	}
	p.shot("page-narrow")
	for _, view := range []string{"points", "points/" + pointName, "rules", "log"} {
		p.look(view)
		p.eval("({width: document.documentElement.scrollWidth})", &seen)
		if seen.Width > 390 {
			t.Errorf("%s is %v px wide on a screen of 390", view, seen.Width)
		}
	}
}
