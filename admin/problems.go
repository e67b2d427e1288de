package admin

import (
	"cmp"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

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
		add(Problem{Kind: "database", Severe: true, Title: "The database does not answer within " + readTimeout.String(),
			Remedy: "Look at its process list and its disks. The figures here are older ones."})
	}
	ruleProblems(snap.rules, add)
	s.pointProblems(points, st.Now, add)
	quarantineProblems(snap.quarantine, add)
	for _, f := range st.Figures {
		if f.Limit > 0 && f.Value*10 >= f.Limit*9 {
			add(Problem{Kind: "limit", Title: fmt.Sprintf("%s: %s of %s", f.Name, text.Digits(f.Value), text.Digits(f.Limit)),
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
		string(store.RuleBroken): {Severe: true, Title: "not in force: their rows do not move",
			Remedy: "Correct the row of sync_control at the place that the error names. It is in force within a second."},
		string(store.RuleStale): {Title: "edited with a mistake: their last good versions stay in force until the next restart",
			Remedy: "Correct the row of sync_control, or undo the edit with 'syncgate rules revert'."},
	} {
		for i := range rules {
			if r := &rules[i]; r.State == state {
				p.Items = append(p.Items, Item{Name: fmt.Sprintf("%s %s, rule %d", r.Type, r.Table, r.ID), Text: r.Error,
					Link: fmt.Sprintf("#/rules?id=%d", r.ID)})
			}
		}
		if n := len(p.Items); n > 0 {
			p.Kind, p.Link = "rule "+state, "#/rules?state="+state
			p.Title = text.Plural(n, "rule") + " " + p.Title
			add(p)
		}
	}
}

func (s *Server) pointProblems(points []Point, now time.Time, add func(Problem)) {
	silent := Problem{Kind: "silent", Severe: true, Link: "#/points?state=silent&sort=seen&desc=1",
		Remedy: "Look at the agent there (systemctl status syncgate-agent) and at the link to it. It keeps its rows and sends them when it is back."}
	for i := range points {
		if p := &points[i]; p.State == pointSilent {
			silent.Items = append(silent.Items, Item{Name: p.Point.Point, At: p.Seen, Link: pointLink(p.Point.Point)})
		}
	}
	if n := len(silent.Items); n > 0 {
		slices.SortFunc(silent.Items, func(a, b Item) int { return a.At.Compare(b.At) })
		silent.Title = fmt.Sprintf("%s silent for more than %s", text.Plural(n, "point"), span(s.options.Silent))
		add(silent)
	}
}

func quarantineProblems(counts []store.QuarantineCount, add func(Problem)) {
	p := Problem{Kind: "quarantine", Link: "#/quarantine",
		Remedy: "Correct the rule, the table or the rows, then replay them; or drop them."}
	refused := 0
	for _, c := range counts {
		if n := c.Rows - c.Waiting; n > 0 {
			refused += n
			p.Items = append(p.Items, Item{Name: fmt.Sprintf("%s in %s", text.Plural(n, "row"), c.Table), Text: c.Reason,
				At: c.Oldest, Link: fmt.Sprintf("#/quarantine?rule=%d&error=%d", c.RuleID, c.Code)})
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
