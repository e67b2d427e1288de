package admin

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"syncgate/internal/limit"
	"syncgate/internal/text"
	"syncgate/store"
)

// Problem is something that needs a person.
type Problem struct {
	Kind   string `json:"kind"`
	Severe bool   `json:"severe"` // rows do not move
	Title  string `json:"title"`  // with the number
	Remedy string `json:"remedy"`
	Link   string `json:"link,omitempty"` // the place on the page that shows all
	Items  []Item `json:"items,omitempty"`
}

// Item is one of the points, rules or rows that have a problem.
type Item struct {
	Name string    `json:"name"`
	Text string    `json:"text,omitempty"`
	At   time.Time `json:"at,omitzero"` // since when
	Link string    `json:"link,omitempty"`
}

// maxItems are shown of one problem.
const maxItems = 5

// problems lists what needs a person, the most severe first. Each kind is there once, however many points it concerns.
func (s *Server) problems(st *Status, points []Point, snap *snapshot) []Problem {
	all := []Problem{}
	add := func(p Problem) {
		p.Items = p.Items[:min(maxItems, len(p.Items))]
		all = append(all, p)
	}
	switch {
	case st.State == "draining":
		add(Problem{Kind: "draining", Severe: true, Title: "The server is draining",
			Remedy: "It answers the requests in progress and ends. Agents keep their rows and connect again."})
	case !st.Healthy:
		add(Problem{Kind: "not ready", Severe: true, Title: st.State,
			Remedy: "Agents keep their rows meanwhile. 'syncgate doctor' looks for the cause."})
	case snap.err != nil:
		add(Problem{Kind: "database", Severe: true,
			Title:  "The database does not answer within " + readTimeout.String(),
			Remedy: "Look at its process list and its disks. The figures here are older ones."})
	}
	load := s.options.Gateway.Load()
	if n := len(load.BadKeys); n > 0 {
		p := Problem{Kind: "keys", Severe: true, Title: text.Plural(n, "key") + " of points cannot be opened",
			Remedy: "They were sealed under another master key. Put that file back, or give the points new keys with " +
				"'syncgate point rotate'."}
		for _, name := range load.BadKeys {
			p.Items = append(p.Items, Item{Name: name, Link: pointLink(name)})
		}
		add(p)
	}
	if p99 := time.Duration(s.history.slow() * float64(time.Second)); p99 > slowRequests {
		add(Problem{Kind: "slow",
			Title: "Requests are slow: one of 100 takes more than " + p99.Round(time.Second/10).String(),
			Remedy: "Most often the database waits for its disk or for locks. Look at SHOW PROCESSLIST, and at the " +
				"upsides of downloads: 'syncgate rules explain'."})
	}
	if load.DiskFree > 0 && load.DiskFree < littleDisk {
		add(Problem{Kind: "disk", Severe: true,
			Title:  "The server's disk has " + limit.FormatBytes(int64(load.DiskFree>>20<<20)) + " left",
			Remedy: "Free some of the disk that has data_dir, before the database stops."})
	}
	ruleProblems(snap.rules, add)
	s.pointProblems(points, add)
	quarantineProblems(snap.quarantine, add)
	for _, f := range st.Figures {
		if f.Limit > 0 && f.Value*10 >= f.Limit*9 {
			add(Problem{Kind: "limit",
				Title:  fmt.Sprintf("%s: %s of %s", f.Name, text.Digits(f.Value), text.Digits(f.Limit)),
				Remedy: "At the limit agents are told to wait. Find who uses most, or raise the setting."})
		}
	}
	slices.SortStableFunc(all, func(a, b Problem) int { return cmp.Compare(bit(b.Severe), bit(a.Severe)) })
	return all
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func ruleProblems(rules []store.RuleLine, add func(Problem)) {
	for state, p := range map[string]Problem{
		string(store.RuleBroken): {Severe: true, Title: "not in force; no rows move by it",
			Remedy: "Correct the row of sync_control at the place that the error names. " +
				"It is in force within a second."},
		string(store.RuleStale): {Title: "edited with a mistake; the last good version " +
			"stays in force until the next restart",
			Remedy: "Correct the row of sync_control, or undo the edit with 'syncgate rules revert'."},
	} {
		for i := range rules {
			if r := &rules[i]; r.State == state {
				p.Items = append(p.Items, Item{Name: fmt.Sprintf("%s %s, rule %d", r.Type, r.Table, r.ID),
					Text: strings.TrimSpace(r.Place + " " + r.Error), Link: fmt.Sprintf("#/rules?id=%d", r.ID)})
			}
		}
		if n := len(p.Items); n > 0 {
			p.Kind, p.Link = "rule "+state, "#/rules?state="+state
			p.Title = text.Plural(n, "rule") + " " + p.Title
			add(p)
		}
	}
}

// A disk with less than littleDisk left, a clock that is wrong by more than wrongClock, and requests that take longer
// than slowRequests are problems.
const (
	littleDisk   = 1 << 30
	wrongClock   = time.Minute
	slowRequests = 2 * time.Second
)

// pointProblems finds what is wrong with points, each kind for all points at once.
func (s *Server) pointProblems(points []Point, add func(Problem)) {
	silent := Problem{Kind: "silent", Severe: true, Title: "silent for more than " + span(s.options.Silent),
		Link: "#/points?state=silent&sort=seen&desc=1",
		Remedy: "Look at the agent there (systemctl status syncgate-agent) and at the link to it. It keeps its rows " +
			"and sends them when it is back."}
	failing := Problem{Kind: "failing", Severe: true, Title: "with rules that fail there",
		Link: "#/points?state=trouble", Remedy: "The point's page has the error of each rule."}
	lag := Problem{Kind: "lag", Title: "behind by more than " + span(s.options.MaxLag), Link: "#/points?sort=lag",
		Remedy: "Rows wait there. Look for a slow link, a rule that fails, or more rows than the link carries."}
	disk := Problem{Kind: "point disk", Title: "with less than 1 GiB of disk left",
		Remedy: "Free some of the point's disk: its database stops when it is full."}
	clock := Problem{Kind: "clock", Title: "whose clocks are wrong by more than " + span(wrongClock),
		Remedy: "Set the clock there, and have NTP keep it. Rules that read by time depend on it."}
	refused := Problem{Kind: "point quarantine", Title: "with rows in their own quarantine",
		Remedy: "'syncgate-agent quarantine list' there shows the rows that could not be applied or sent."}
	for i := range points {
		p := &points[i]
		note := func(to *Problem, when bool, at time.Time, format string, args ...any) {
			if when {
				to.Items = append(to.Items, Item{Name: p.Point.Point, At: at, Text: fmt.Sprintf(format, args...),
					Link: pointLink(p.Point.Point)})
			}
		}
		note(&silent, p.State == pointSilent, p.Seen, "")
		if r := p.Report; r != nil && p.Connections > 0 {
			note(&failing, r.Failing > 0, time.Time{}, "%s", text.Plural(r.Failing, "rule"))
			note(&lag, p.lag() > s.options.MaxLag, time.Now().Add(-p.lag()), "%s waiting",
				text.Plural(int(r.Backlog), "row"))
			note(&disk, r.DiskFree > 0 && r.DiskFree < littleDisk, time.Time{}, "%d MiB", r.DiskFree>>20)
			note(&refused, r.Quarantined > 0, time.Time{}, "%s", text.Plural(int(r.Quarantined), "row"))
			ahead := time.Duration(r.ClockAheadMs) * time.Millisecond
			note(&clock, ahead.Abs() > wrongClock, time.Time{}, "%s %s", span(ahead.Abs()),
				map[bool]string{true: "ahead", false: "behind"}[ahead > 0])
		}
	}
	for _, p := range []Problem{silent, failing, lag, disk, clock, refused} {
		if n := len(p.Items); n > 0 {
			slices.SortStableFunc(p.Items, func(a, b Item) int { return a.At.Compare(b.At) })
			p.Title = text.Plural(n, "point") + " " + p.Title
			add(p)
		}
	}
}

func quarantineProblems(counts []store.QuarantineCount, add func(Problem)) {
	p := Problem{Kind: "quarantine", Link: "#/quarantine",
		Remedy: "Correct the rule, the table or the rows, then replay them; or drop them."}
	refused := 0
	for _, c := range counts {
		if n := c.Rows - c.Waiting; n > 0 {
			refused += n
			p.Items = append(p.Items, Item{Name: fmt.Sprintf("%s in %s", text.Plural(n, "row"), c.Table),
				Text: c.Reason, At: c.Oldest, Link: fmt.Sprintf("#/quarantine?rule=%d&error=%d", c.RuleID, c.Code)})
		}
	}
	if refused > 0 {
		p.Title = text.Plural(refused, "row") + " in quarantine"
		add(p)
	}
}

// span writes a duration in its two largest units.
func span(d time.Duration) string {
	d = max(d, 0)
	day := 24 * time.Hour
	unit := func(n time.Duration, of string, rest time.Duration, small string) string {
		if rest == 0 {
			return fmt.Sprintf("%d %s", n, of)
		}
		return fmt.Sprintf("%d %s %d %s", n, of, rest, small)
	}
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return unit(d/time.Minute, "min", d%time.Minute/time.Second, "s")
	case d < day:
		return unit(d/time.Hour, "h", d%time.Hour/time.Minute, "min")
	default:
		return unit(d/day, "d", d%day/time.Hour, "h")
	}
}

// pointLink is the page of a point.
func pointLink(name string) string {
	return "#/points/" + strings.ReplaceAll(url.PathEscape(name), "+", "%2B")
}
