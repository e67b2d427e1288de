package rule

import (
	"fmt"
	"slices"

	"syncgate/internal/rowset"
)

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
		return fmt.Sprintf("(select concat_ws(',', %s) from %s order by %s limit 1)", QuoteAll(p.Key), p.Table.Quoted(), order), false
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
