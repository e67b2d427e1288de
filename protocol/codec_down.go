package protocol

import "math"

// What comes down: rows, rules, notices.

func (r DownloadReply) appendCBOR(dst []byte) ([]byte, error) {
	dst = appendUint(appendKey(appendHead(dst, majorMap, 7), 1), uint64(r.Statement))
	dst, err := appendNames(appendKey(dst, 2), r.Columns)
	if err != nil {
		return dst, err
	}
	if dst, err = appendNames(appendKey(dst, 3), r.Types); err != nil {
		return dst, err
	}
	if dst, err = appendValues(appendKey(dst, 4), r.Values); err != nil {
		return dst, err
	}
	return appendEnd(dst, r.State, r.More, r.Total)
}

// appendEnd writes what only the last part of a download has.
func appendEnd(dst []byte, state []StateItem, more bool, total uint64) ([]byte, error) {
	dst, err := appendItems(appendKey(dst, 5), state)
	if err != nil {
		return dst, err
	}
	return appendUint(appendKey(appendBool(appendKey(dst, 6), more), 7), total), nil
}

func (d *decoder) downloadReply(r *DownloadReply) {
	d.fields(func(key uint64) {
		switch key {
		case 1:
			r.Statement = uint32(d.uintMax(math.MaxUint32))
		case 2:
			r.Columns = d.names(MaxColumns)
		case 3:
			r.Types = d.names(MaxColumns)
		case 4:
			r.Values = d.values()
		case 5:
			r.State = d.items(MaxState)
		case 6:
			r.More = d.bool()
		case 7:
			r.Total = d.uint()
		default:
			d.skip(0)
		}
	})
	if len(r.Types) != len(r.Columns) {
		d.fail(ErrPayload, "as many types as columns are needed")
	}
	d.checkRows(r.Columns, r.Values)
}

func (r RulesReply) appendCBOR(dst []byte) ([]byte, error) {
	dst = appendUint(appendKey(appendHead(dst, majorMap, 2), 1), r.Version)
	dst = appendHead(appendKey(dst, 2), majorArray, uint64(len(r.Rules)))
	var err error
	for _, row := range r.Rules {
		if dst, err = appendItems(dst, row); err != nil {
			return dst, err
		}
	}
	return dst, nil
}

func (d *decoder) rulesReply(r *RulesReply) {
	d.fields(func(key uint64) {
		switch key {
		case 1:
			r.Version = d.uint()
		case 2:
			n := d.array(MaxValues)
			if n > 0 {
				r.Rules = make([]RuleRow, 0, n)
			}
			for range n {
				r.Rules = append(r.Rules, d.items(MaxColumns))
				if d.err != nil {
					return
				}
			}
		default:
			d.skip(0)
		}
	})
}

func (p PingReply) appendCBOR(dst []byte) ([]byte, error) {
	dst = appendUint(appendKey(appendHead(dst, majorMap, 2), 1), p.RulesVersion)
	return appendUint(appendKey(dst, 2), uint64(max(p.ClockMs, 0))), nil
}

func (d *decoder) pingReply(p *PingReply) {
	d.fields(func(key uint64) {
		switch key {
		case 1:
			p.RulesVersion = d.uint()
		case 2:
			p.ClockMs = int64(d.uintMax(math.MaxInt64))
		default:
			d.skip(0)
		}
	})
}

func (e ErrorReply) appendCBOR(dst []byte) ([]byte, error) {
	return appendNotice(dst, e.Message, e.RetryAfterMs), nil
}

func (d *decoder) errorReply(e *ErrorReply) { e.Message, e.RetryAfterMs = d.notice() }

func (g GoAway) appendCBOR(dst []byte) ([]byte, error) {
	return appendNotice(dst, g.Reason, g.GraceMs), nil
}

func (d *decoder) goAway(g *GoAway) { g.Reason, g.GraceMs = d.notice() }

// A notice is a text for a person and a time: an ErrorReply or a GoAway.
func appendNotice(dst []byte, text string, ms uint32) []byte {
	dst = appendText(appendKey(appendHead(dst, majorMap, 2), 1), clip(text))
	return appendUint(appendKey(dst, 2), uint64(ms))
}

func (d *decoder) notice() (text string, ms uint32) {
	d.fields(func(key uint64) {
		switch key {
		case 1:
			text = d.textMax(MaxText)
		case 2:
			ms = uint32(d.uintMax(math.MaxUint32))
		default:
			d.skip(0)
		}
	})
	return text, ms
}
