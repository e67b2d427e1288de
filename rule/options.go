package rule

import (
	"fmt"
	"strings"
	"time"
)

// Conflict says which version of a row stays when two sides changed it at once.
type Conflict string

// The ways to settle a conflict.
const (
	CentreWins Conflict = "centre" // the centre's version
	PointWins  Conflict = "point"  // the version of the point that uploads it
	NewestWins Conflict = "newest" // the later change by its time; the centre's when both have one time
)

// FileMode says what rows do to a file that is there.
type FileMode string

// The modes of files.
const (
	FileSnapshot FileMode = "snapshot" // the file has exactly the rows of the last read of the whole selection
	FileAppend   FileMode = "append"   // the rows go to its end
)

// Options are what the lines `-- option: …` of sync_sql say.
type Options struct {
	AllOrNothing bool          // the first row that no operation takes fails the batch
	Changes      bool          // the table's changes are recorded, and read in the order of their commits
	Outbox       bool          // the agent keeps what it read until it is acknowledged
	Lag          time.Duration // how far a generated upside stays behind the database's clock
	Watermark    string        // the column that a generated upside advances by; empty: update_time
	Where        string        // which rows a generated upside reads, an expression; empty: all
	Conflict     Conflict      // CentreWins unless the rule says otherwise
	Rounding     bool          // a value that its column cuts or rounds is applied
	FileMode     FileMode      // empty: a read of the whole selection is a snapshot, what is new is appended

	where *source  // where Where stands
	given []string // as they are written
}

// option is one option: how it is written, and what takes its argument. set returns what is wrong with the argument.
type option struct {
	name, argument string
	set            func(o *Options, argument string) error
}

// options are all of them.
var options = []option{
	{"all-or-nothing", "", func(o *Options, _ string) error { o.AllOrNothing = true; return nil }},
	{"changes", "", func(o *Options, _ string) error { o.Changes = true; return nil }},
	{"outbox", "", func(o *Options, _ string) error { o.Outbox = true; return nil }},
	{"allow-rounding", "", func(o *Options, _ string) error { o.Rounding = true; return nil }},
	{"file", "snapshot|append", func(o *Options, text string) error {
		o.FileMode = FileMode(text)
		if o.FileMode != FileSnapshot && o.FileMode != FileAppend {
			return fmt.Errorf("there is no file mode %q; a file is a snapshot, or rows append to it", text)
		}
		return nil
	}},
	{"lag", "2s", func(o *Options, text string) error {
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 || d > time.Hour || d%time.Second != 0 {
			return fmt.Errorf("%q is not a lag; it is whole seconds, an hour at most", text)
		}
		o.Lag = d
		return nil
	}},
	{"watermark", "COLUMN", func(o *Options, text string) error { o.Watermark = text; return nil }},
	{"where", "CONDITION", func(o *Options, text string) error { o.Where = text; return nil }},
	{"centre", "", func(o *Options, _ string) error { o.Conflict = CentreWins; return nil }},
	{"point", "", func(o *Options, _ string) error { o.Conflict = PointWins; return nil }},
	{"newest", "", func(o *Options, _ string) error { o.Conflict = NewestWins; return nil }},
}

// option takes the options of one line. They are separated by commas; where takes the rest of its line.
func (c *compiler) option(line *source) {
	for from := 0; from < len(line.text); {
		text := line.text[from:]
		from += len(text) - len(strings.TrimLeft(text, " \t"))
		text = line.text[from:]
		name, _, _ := strings.Cut(text, " ")
		if !sameName(name, "where") {
			text, _, _ = strings.Cut(text, ",")
		}
		if err := c.oneOption(strings.TrimSpace(text)); err != nil {
			c.at(&script{phase: c.row.mainPhase(), src: line}, from, Error, BadOption, err.Error(), optionsFix())
		} else if sameName(name, "where") {
			at := from + len(name)
			blanks := len(text[len(name):]) - len(strings.TrimLeft(text[len(name):], " \t"))
			c.plan.where = line.cut(at+blanks, from+len(text))
		}
		from += len(text) + 1
	}
}

func (c *compiler) oneOption(text string) error {
	name, argument, _ := strings.Cut(text, " ")
	argument = strings.TrimSpace(argument)
	for _, o := range options {
		if sameName(o.name, name) {
			if (argument == "") != (o.argument == "") {
				return fmt.Errorf("the option is written %s", strings.TrimSpace(o.name+" "+o.argument))
			}
			c.plan.given = append(c.plan.given, text)
			return o.set(&c.plan.Options, argument)
		}
	}
	return fmt.Errorf("there is no option %s", text)
}

func optionsFix() string {
	var all []string
	for _, o := range options {
		all = append(all, strings.TrimSpace(o.name+" "+o.argument))
	}
	return "options are " + strings.Join(all, ", ")
}

// checkOptions refuses options that mean nothing for the row.
func (c *compiler) checkOptions() {
	o := &c.plan.Options
	say := func(when bool, what, fix string) {
		if when {
			c.refuseIn(BadOption, "sync_sql", what, fix)
		}
	}
	generated := c.plan.Form == Generated
	say(o.Changes && !generated, "option changes is for rules without SQL of their own",
		"remove the statements, or read the change table in them as docs/rules.md shows")
	say(o.Where != "" && !generated, "option where is for rules without SQL of their own",
		"write the condition into the select")
	say(o.Watermark != "" && !generated, "option watermark is for rules without SQL of their own",
		"name the column in the select")
	say(o.Watermark != "" && o.Changes, "options watermark and changes exclude each other", "keep one of them")
	say(o.Where != "" && c.row.mainPhase() == downside, "option where is for the row that reads",
		"move it to the other row")
	say(o.Rounding && c.row.mainPhase() != downside, "option allow-rounding is for the row that applies",
		"move it to the other row")
	say(o.Outbox && c.row.mainPhase() == downside, "option outbox is for the row that reads",
		"move it to the other row")
	c.checkWhere()
}

// checkWhere checks the condition of option where as any SQL of a rule.
func (c *compiler) checkWhere() {
	if c.plan.where == nil {
		return
	}
	s := &script{phase: upside, verb: Select, src: c.plan.where}
	if s.read(); s.err != nil {
		c.refuse(s, s.err.at, BadSQL, s.err.msg, "")
		return
	}
	if !c.shape(s) {
		return
	}
	for i := range s.toks {
		c.forbidden(s, i)
	}
	c.placeholders(s)
	if uses(s.args, State, Limit) {
		c.refuse(s, 0, UnknownParameter, "the condition does not know :state and :limit",
			"it knows :point_no, :now, :since and :until")
	}
}

// clause is option where as a factor of a condition, or "".
func (o *Options) clause() string {
	if o.Where == "" {
		return ""
	}
	return "(" + o.Where + "\n)" // the condition may end in a comment
}

// text is the options that the rule gives, as sync_sql says them.
func (o *Options) text() string {
	var b strings.Builder
	for _, text := range o.given {
		switch name, _, _ := strings.Cut(text, " "); strings.ToLower(name) {
		case "changes", "watermark", "where": // the statements have it in them
			b.WriteString("-- generated with option " + text + "\n")
		default:
			b.WriteString("-- option: " + text + "\n")
		}
	}
	return b.String()
}
