package business

import (
	"strings"
	"unicode"

	"syncgate/protocol"
	"syncgate/store"
)

// report takes what a point says of itself. It is a point's word: it is shown to people, and nothing depends on it.
func (h *Handler) report(r *Request) error {
	req, err := r.Message.ReportRequest()
	switch {
	case err != nil:
		return err
	case h.o.Reported == nil:
		return ErrUnsupported
	}
	now := h.o.Clock()
	all := store.PointReport{Point: r.Point, ReportedAt: now, Report: req.Report}
	if req.ClockMs > 0 {
		all.ClockAheadMs = req.ClockMs - now.UnixMilli()
	}
	texts := []*string{&all.Software, &all.Database}
	for i := range all.Rules {
		x := &all.Rules[i]
		texts = append(texts, &x.Table, &x.Direction, &x.State, &x.Code, &x.Column, &x.Text)
		if rule := h.o.Rules.Lookup(x.Table, x.Direction, r.Point); rule != nil {
			x.Here = rule.Row.ID
		}
	}
	for _, t := range texts {
		*t = strings.Clone(printable(*t)) // the payload is not kept
	}
	r.Answer(&protocol.ReportReply{EveryMs: uint32(h.o.Reported(all).Milliseconds())})
	return nil
}

// printable is text with a space in the place of everything that a terminal or a page would not show as it is.
func printable(text string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return ' '
	}, text)
}
