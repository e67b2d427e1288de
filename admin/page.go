package admin

import (
	"bytes"
	_ "embed" // page.html
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"syncgate/internal/text"
)

const pageLines = 40 // log lines on the page

//go:embed page.html
var pageHTML string

// view is what the template gets.
type view struct {
	Status
	Log []logLine
}

// logLine is one line of the log, taken apart when it is JSON as zerolog writes it.
type logLine struct {
	Time, Level, Message, Rest string
}

func (s *Server) page(w http.ResponseWriter, _ *http.Request) {
	v := view{Status: s.options.Status()}
	if v.Now.IsZero() {
		v.Now = time.Now()
	}
	for _, line := range s.options.Log.Last(pageLines) {
		v.Log = append(v.Log, readLogLine(line))
	}
	slices.Reverse(v.Log) // the newest on top
	var b bytes.Buffer
	if err := pageTemplate(v.Now).Execute(&b, v); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(b.Bytes()) // the reader may have left
}

// pageTemplate parses the embedded page, for each view again, since times in it are relative to now.
func pageTemplate(now time.Time) *template.Template {
	return template.Must(template.New("page").Funcs(template.FuncMap{
		"count":   text.Digits[uint64],
		"ago":     func(t time.Time) string { return ago(t, now) },
		"for":     func(t time.Time) string { return span(now.Sub(t)) },
		"stamp":   stamp,
		"percent": percent,
	}).Parse(pageHTML))
}

// readLogLine takes a line that is not JSON as a message.
func readLogLine(line []byte) logLine {
	var fields map[string]any
	d := json.NewDecoder(bytes.NewReader(line))
	d.UseNumber()
	if d.Decode(&fields) != nil {
		return logLine{Message: string(line)}
	}
	take := func(name string) string {
		v, ok := fields[name]
		delete(fields, name)
		if !ok {
			return ""
		}
		return fmt.Sprint(v)
	}
	l := logLine{Time: take("time"), Level: take("level"), Message: take("message")}
	var rest []string
	for name, v := range fields {
		rest = append(rest, fmt.Sprintf("%s=%v", name, v))
	}
	slices.Sort(rest)
	l.Rest = strings.Join(rest, " ")
	return l
}

func percent(value, limit uint64) uint64 {
	if limit == 0 {
		return 0
	}
	return min(100, uint64(float64(value)/float64(limit)*100))
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

func ago(t, now time.Time) string {
	if t.IsZero() {
		return "never"
	}
	if d := now.Sub(t); d >= time.Second {
		return span(d) + " ago"
	}
	return "now"
}

// span writes a duration in its two largest units.
func span(d time.Duration) string {
	d = max(d, 0)
	day := 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	default:
		return fmt.Sprintf("%d d %d h", d/day, d%day/time.Hour)
	}
}
