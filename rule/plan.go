package rule

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"syncgate/internal/pyliteral"
	"syncgate/internal/rowset"
)

// Form is how the row was written. All forms compile to the same kind of Plan.
type Form uint8

// The forms of sync_sql.
const (
	Generated Form = iota // sync_sql is empty: the statements are written from the table's facts
	Named                 // plain SQL in sections with :named parameters
	JSON                  // a JSON object of phases
	Literal               // the seed-era Python literal
)

func (f Form) String() string { return [...]string{"generated", "plain", "json", "literal"}[f] }

// Op is what a statement does.
type Op uint8

// The operations of sync_operation_type.
const (
	Select Op = iota
	Insert
	Update
	Delete
	Replace
	OpFile // the seed's `file`: rows become a file, no SQL is run
)

var opNames = []string{"select", "insert", "update", "delete", "replace", "file"}

func (o Op) String() string { return opNames[o] }

// Plan is a compiled rule. It is immutable.
type Plan struct {
	Row    Row
	Form   Form
	Fields []string // the names of the values of a row in hand, in wire order
	Table  *Table   // what the rule was compiled against; nil: not known

	Upside      []Statement // each reads a part of the rows to send
	Downside    []Statement // a chain: the next runs when one cannot take the row
	UpdateState []Statement // all run after success, in order

	Options
	Period    time.Duration // reach of :since back from :until; 0 is no period
	TakesTime bool          // some statement uses :now, :since or :until

	Cursor []string    // columns of the last row that become the state of the next page; empty is not paged
	Delete []Statement // of a generated downside: takes the rows that have the mark rowset.Deleted

	Key      []string   // columns of the primary key
	Recorded *Changes   // where the table's changes are recorded; nil: they are not
	Load     *Statement // how the table is read before there is any state, see LoadItem; nil: as Upside says
	Mark     *Mark      // of an upside that reads by a column of times
	Present  *Statement // of a generated downside where changes are recorded: the change of the row that a row meets
	Parents  []string   // the tables that the table's foreign keys refer to, as rules name them

	// Of a generated downside:
	Guarded bool       // the upsert sets its key to NULL, and so fails, when it meets a row with another key
	Respell *Statement // the upsert for a row that is there with another spelling of its key; nil: keys have one
	Free    *Statement // gives the unique values of a row free, so that another may take them; nil: it cannot be done
	Find    *Statement // the row that has the key of the row in hand, which stays locked

	table  *Table   // the table's facts; nil: they are not known
	narrow []narrow // of each field, what its column would cut or round; nil: nothing is known
	listed []string // the fields in sync_field
}

// HasKey reports whether a row in hand has its primary key.
func (p *Plan) HasKey() bool { return len(p.Key) > 0 && allIn(p.Key, p.Fields) }

// KeyIn is the primary key in a row with the given columns; nil when it is not known.
func (p *Plan) KeyIn(columns []string, row []any) []any {
	if len(p.Key) == 0 || !allIn(p.Key, columns) {
		return nil
	}
	key := make([]any, len(p.Key))
	for i, k := range p.Key {
		key[i] = row[index(columns, k)]
	}
	return key
}

// IsClock reports whether a field tells which of two versions of a row is the later.
func (p *Plan) IsClock(field string) bool {
	return sameName(field, cmp.Or(p.Watermark, updateTimeColumn))
}

// OwnParent reports whether rows of the table refer to others of it.
func (p *Plan) OwnParent() bool { return contains(p.Parents, p.Row.Table) }

// LoadItem is the name in the state of the i-th column of the key up to which a table is loaded. The pages of a load
// also carry the state that it began with, so that nothing which happens meanwhile is missed.
func LoadItem(i int) string { return fmt.Sprintf("sync_load_%d", i+1) }

// Statement is one SQL statement with every value bound, or one file to write.
type Statement struct {
	Op   Op
	SQL  string // has a ? for each value and no other; empty for OpFile
	Args []Arg  // one for each ?

	Insert *InsertParts // set when rows may share one multi-row statement
	Start  *Statement   // the upside without a state; nil: this one with the initial values
	File   *File        // only for OpFile

	phase phase
	named string  // SQL with :names in the place of its ?s
	text  *source // where SQL was cut from; nil when generated
	start int     // offset of SQL in text
}

// InsertParts cut an insert so that SQL == Head + Tuple + Tail and Head + Tuple + ", " + Tuple + Tail inserts two rows
// with the same outcome as two statements. All of the statement's Args are those of Tuple.
type InsertParts struct{ Head, Tuple, Tail string }

// Rows is the statement for n rows.
func (p InsertParts) Rows(n int) string {
	return p.Head + p.Tuple + strings.Repeat(", "+p.Tuple, n-1) + p.Tail
}

// File is what an OpFile operation writes.
type File struct {
	Name   string // slash-separated, relative, stays inside the directory; may have {point_no} in it, see NameFor
	Format FileFormat
	Fields []int // indexes in Plan.Fields, in the order they are written; never empty for lines
}

// FileFormat is the format of a file.
type FileFormat string

// The formats: a header line is written for CSV and TSV; Lines is one value a line.
const (
	CSV   FileFormat = "csv"
	TSV   FileFormat = "tsv"
	JSONL FileFormat = "jsonl"
	Lines FileFormat = "lines"
)

// Source is where an argument's value comes from.
type Source uint8

// The sources of values.
const (
	Field      Source = iota // the row in hand: Arg.Field
	State                    // carried state: by Arg.Name, or by position Arg.Field when Name is empty
	Since                    // start of the period
	Until                    // end of the period, or now without one
	PointNo                  // the point's number
	Now                      // when the batch is run
	Limit                    // rows a page
	Origin                   // the side whose changes are not sent back to it
	Bound                    // the time up to which every row is committed
	LocalBound               // the same as a DATETIME shows it
	Fixed                    // Arg.Value
)

func (s Source) String() string {
	return [...]string{"field", "state", "since", "until", "point_no", "now", "limit", "sync_origin", "sync_bound",
		"sync_bound", "fixed"}[s]
}

// Arg is the value of one ?.
type Arg struct {
	Source Source
	Name   string // the field's or the state's name
	Field  int    // Field: index in Plan.Fields; State without a name: position in Env.State
	Value  any    // Fixed: the value; State: the value when nothing is carried
	AsText bool   // a number is bound as the text that Python prints

	Instant bool // State: of a TIMESTAMP, which a state has in UTC
	guessed bool // State: Value is a guess by its name
}

// PerRow reports whether the statement uses the row in hand, so that it runs once a row; an update_state statement that
// does not is run once a batch.
func (s *Statement) PerRow() bool {
	return s.File != nil || uses(s.Args, Field)
}

// Uses reports whether a value of the statement comes from one of the sources.
func (s *Statement) Uses(sources ...Source) bool { return uses(s.Args, sources...) }

// Paged reports whether the upside runs again until a page is short.
func (p *Plan) Paged() bool { return len(p.Cursor) > 0 }

// Window is the period that ends at now; both are now for a plan without one.
func (p *Plan) Window(now time.Time) (since, until time.Time) {
	return now.Add(-p.Period), now
}

// DefaultLimit is the rows of a page when Env.Limit is not positive.
const DefaultLimit = 1000

// ErrRowShape means that a row in hand has not as many values as the plan has fields.
var ErrRowShape = errors.New("rule: the row does not have the rule's fields")

// Env holds the values that statements take besides the row in hand. The store that runs them fills in the three times:
// they are those of the database's clock in the zone of the session, and are bound as text in their own location.
type Env struct {
	State             []rowset.StateItem
	Since, Until, Now time.Time
	Point             string
	// Wall: rows that are read, and State, have what other clients see: TIMESTAMPs in the zone of the database, a FLOAT
	// as printed.
	Wall              bool
	Known             *uint64 // number of the last change here that the other side has seen; nil: rows that come in win
	Origin            string  // the side that is read for; its own changes are not sent back to it
	Limit             int     // rows a page; DefaultLimit when not positive
	Bound, LocalBound string  // filled by the store that reads; Now when empty
}

// Bind appends the statement's values to dst in the order of its ? marks. row holds the values of Plan.Fields and may
// be nil when PerRow is false.
func (s *Statement) Bind(dst []any, e *Env, row []any) ([]any, error) {
	for i := range s.Args {
		a := &s.Args[i]
		v := a.Value
		switch a.Source {
		case Field:
			if a.Field >= len(row) {
				return dst, fmt.Errorf("%w: %d values, %s is number %d", ErrRowShape, len(row), a.Name, a.Field+1)
			}
			v = row[a.Field]
		case State:
			v = e.state(a)
		case Since:
			v = DateTime(e.Since)
		case Until:
			v = DateTime(e.Until)
		case Now:
			v = DateTime(e.Now)
		case PointNo:
			v = e.Point
		case Origin:
			v = e.Origin
		case Bound:
			v = cmp.Or(e.Bound, DateTime(e.Now))
		case LocalBound:
			v = cmp.Or(e.LocalBound, DateTime(e.Now))
		case Limit:
			if v = int64(e.Limit); e.Limit <= 0 {
				v = int64(DefaultLimit)
			}
		}
		if a.AsText {
			v = asText(v)
		}
		dst = append(dst, v)
	}
	return dst, nil
}

// asText is a number as Python's str() prints it, and any other value as it is. A text column compares with a number by
// the number that its text begins with, so '007' is 7 and every word is 0.
func asText(v any) any {
	switch v := v.(type) {
	case int64:
		return strconv.FormatInt(v, 10)
	case uint64:
		return strconv.FormatUint(v, 10)
	case float64:
		if text, err := pyliteral.Append(nil, v, pyliteral.Python3); err == nil {
			return string(text)
		}
	}
	return v
}

// state is the carried value. A NULL, as max() of an empty table gives, counts as no state: no row compares to it.
func (e *Env) state(a *Arg) any {
	for i, item := range e.State {
		if item.Value != nil && (a.Name == "" && i == a.Field || a.Name != "" && sameName(item.Name, a.Name)) {
			return item.Value
		}
	}
	return a.Value
}

// DateTime is t as MySQL writes a DATETIME(6) in t's own location, without the zeros at the end of the fraction.
func DateTime(t time.Time) string { return t.Format("2006-01-02 15:04:05.999999") }

// more are the statements beside those of the phases.
func (p *Plan) more() (all []Statement) {
	if p.Mark != nil {
		all = append(all, p.Mark.Again, p.Mark.Scan, p.Mark.Last)
	}
	for _, s := range []*Statement{p.Load, p.Present, p.Respell, p.Free, p.Find} {
		if s != nil {
			all = append(all, *s)
		}
	}
	return append(all, p.Delete...)
}

// Glance is an expression whose value is another when the upside has new rows to read, and which costs the database one
// look into an index. "": there is none for this plan. numbered: it is true as long as there are changes without a
// number.
func (p *Plan) Glance() (expression string, numbered bool) {
	switch {
	case p.ByNumber():
		return "exists (select 1 from " + p.Recorded.Name + " where sync_seq = 0)", true
	case p.Form != Generated || p.Table == nil:
	case p.Mark != nil && p.Table.hasKeyOn(p.Mark.Column):
		return fmt.Sprintf("(select max(%s) from %s)", Quote(p.Mark.Column), p.Table.Quoted()), false
	case p.Mark == nil && len(p.Key) > 0 && slices.Equal(p.Cursor, p.Key):
		order := Join(p.Key, ", ", func(k string) string { return Quote(k) + " desc" })
		return fmt.Sprintf("(select concat_ws(',', %s) from %s order by %s limit 1)",
			QuoteAll(p.Key), p.Table.Quoted(), order), false
	}
	return "", false
}

// ByNumber reports whether the upside reads the numbers that the table's changes have been given.
func (p *Plan) ByNumber() bool {
	return p.Recorded != nil && slices.Contains(p.Cursor, rowset.ChangeSeq)
}

// Binds reports whether a value of the upside comes from one of the sources.
func (p *Plan) Binds(sources ...Source) bool {
	all := p.Upside
	if p.Load != nil {
		all = append(slices.Clip(all), *p.Load.Start, *p.Load)
	}
	return slices.ContainsFunc(all, func(s Statement) bool { return s.Uses(sources...) })
}
