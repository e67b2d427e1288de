package store

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

// A rule's own SQL, and every row that is applied, run in the time zone of the database's other clients: now(), a
// default, a trigger and a DATETIME are then what those clients see. TIMESTAMPs travel in UTC. Generated selects read
// them in a session in UTC, and the store converts those of the other sessions. Text of the hour that a zone repeats in
// autumn stands for two instants. So rows with such a TIMESTAMP are written in a session whose zone has a fixed offset.

// zone is how far the clocks of a time zone are ahead of UTC.
type zone struct {
	name   string  // as SET time_zone takes it
	from   []int64 // Unix seconds at which the offsets begin
	offset []int64 // seconds; an offset that the zone has from the beginning stands first, without a from
}

var utc = &zone{name: "+00:00", offset: []int64{0}}

func fixedZone(seconds int64) *zone {
	if seconds == 0 {
		return utc
	}
	sign, abs := "+", seconds
	if seconds < 0 {
		sign, abs = "-", -seconds
	}
	return &zone{name: fmt.Sprintf("%s%02d:%02d", sign, abs/3600, abs/60%60), offset: []int64{seconds}}
}

func (z *zone) offsetAt(unix int64) int64 {
	n, _ := slices.BinarySearch(z.from, unix+1)
	return z.offset[n]
}

// moved is the time t, as MySQL writes it, moved by so many seconds. Text that is no time stays as it is.
func moved(text string, by func(unix int64) int64) string {
	if len(text) < len(time.DateTime) {
		return text
	}
	t, err := time.Parse(time.DateTime, text[:len(time.DateTime)])
	if err != nil {
		return text // such as a zero date
	}
	if t = t.Add(time.Duration(by(t.Unix())) * time.Second); t.Year() < 1 || t.Year() > 9999 {
		return text
	}
	return t.Format(time.DateTime) + text[len(time.DateTime):]
}

// wall is a time of UTC as the zone's clocks show it.
func (z *zone) wall(text string) string {
	if z == utc {
		return text
	}
	return moved(text, z.offsetAt)
}

// utc is a time of the zone's clocks in UTC. A time that comes twice is taken for the first one, as MySQL does.
func (z *zone) utc(text string) string {
	if z == utc {
		return text
	}
	return moved(text, func(wall int64) int64 {
		earliest := int64(math.MaxInt64)
		for _, offset := range []int64{z.offsetAt(wall - 86400), z.offsetAt(wall + 86400)} {
			if z.offsetAt(wall-offset) == offset {
				earliest = min(earliest, -offset)
			}
		}
		if earliest == math.MaxInt64 { // no clock of the zone shows it
			return -z.offsetAt(wall)
		}
		return earliest
	})
}

// now is a zone without changes that has the present offset of z.
func (z *zone) now() *zone { return fixedZone(z.offsetAt(time.Now().Unix())) }

// twice reports whether the zone's clocks show the time of UTC twice.
func (z *zone) twice(text string) bool {
	shown := false
	moved(text, func(unix int64) int64 {
		for i, at := range z.from {
			back := z.offset[i] - z.offset[i+1]
			shown = shown || back > 0 && unix >= at-back && unix < at+back
		}
		return 0
	})
	return shown
}

// convert is a value that is a time of one zone, as another shows it.
func convert(v any, from, to *zone) any {
	if text, ok := v.(string); ok && from != to {
		return to.wall(from.utc(text))
	}
	return v
}

// zones is the zone of the database's other clients.
type zones struct {
	local atomic.Pointer[zone]
	asked atomic.Int64 // Unix nanoseconds
	mu    sync.Mutex   // of who asks
	said  string
}

// zoneEvery is how often the database is asked for its zone.
const zoneEvery = time.Second

// zoneSQL is the zone of the database's other clients as SQL.
func (s *Store) zoneSQL() string {
	if s.o.Zone != "" {
		return rule.Constant(s.o.Zone)
	}
	return "@@global.time_zone"
}

// fresh reports whether local need not be asked for.
func (z *zones) fresh() bool { return time.Now().UnixNano()-z.asked.Load() < int64(zoneEvery) }

// localZone is the zone of the database's other clients, as the database said a second ago. While it is asked again,
// all but one go on with what it said last.
func (s *Store) localZone(ctx context.Context, c *conn) (*zone, error) {
	z := &s.zones
	local, now := z.local.Load(), time.Now().UnixNano()
	switch {
	case local == nil:
		z.mu.Lock()
	case z.fresh() || !z.mu.TryLock():
		return local, nil
	}
	defer z.mu.Unlock()
	var name, said string
	err := c.ask(ctx, "SELECT "+s.zoneSQL()+", @@system_time_zone, @@init_connect", func(v []any) error {
		name, _ = v[0].(string)
		said = fmt.Sprintln(v...)
		return nil
	})
	if err == nil && (local == nil || said != z.said) {
		local, err = c.loadZone(ctx, name)
	}
	if err != nil {
		return nil, err
	}
	z.said = said
	z.local.Store(local)
	z.asked.Store(now)
	return local, nil
}

// useZone sets the zone of the session.
func (c *conn) useZone(ctx context.Context, z *zone) error {
	if c.zone == z.name {
		return nil
	}
	c.zone = ""
	err := c.text(ctx, "SET time_zone = "+rule.Constant(z.name))
	if err == nil {
		c.zone = z.name
	}
	return err
}

// askZone is localZone on a connection of its own.
func (s *Store) askZone(ctx context.Context) (local *zone, err error) {
	if s.zones.fresh() {
		return s.zones.local.Load(), nil
	}
	err = s.retry(ctx, func(c *conn) (err error) {
		local, err = s.localZone(ctx, c)
		return err
	})
	return local, err
}

// probeEvery is shorter than any time between two changes of a zone's offset.
const probeEvery = 7 * 24 * 3600

// loadZone asks the database for the offsets of a zone, because its tables of zones, and the zone of its host, are
// known to it alone. It looks at each week, and halves the weeks in which the offset changes.
func (c *conn) loadZone(ctx context.Context, name string) (*zone, error) {
	z := &zone{name: name}
	if err := c.useZone(ctx, z); isNumber(err, 1298) {
		return nil, notFromDB(fmt.Errorf("time_zone: the database does not know %q; write SYSTEM or an offset such as "+
			"+08:00, or load its tables of time zones with mariadb-tzinfo-to-sql", name))
	} else if err != nil {
		return nil, err
	}
	var at []int64
	for unix := int64(0); unix < math.MaxUint32; unix += probeEvery {
		at = append(at, unix)
	}
	offset, err := c.offsets(ctx, at)
	if err != nil {
		return nil, err
	}
	z.offset = offset[:1:1]
	var low, high []int64
	for i := 1; i < len(offset); i++ {
		if offset[i] != offset[i-1] {
			low, high, z.offset = append(low, at[i-1]), append(high, at[i]), append(z.offset, offset[i])
		}
	}
	for width := probeEvery; width > 1 && len(low) > 0; width = (width + 1) / 2 {
		middle := make([]int64, len(low))
		for i := range low {
			middle[i] = (low[i] + high[i]) / 2
		}
		if offset, err = c.offsets(ctx, middle); err != nil {
			return nil, err
		}
		for i := range middle {
			if offset[i] == z.offset[i] {
				low[i] = middle[i]
			} else {
				high[i] = middle[i]
			}
		}
	}
	z.from = high
	if len(high) == 0 && z.offset[0] == 0 {
		return utc, nil
	}
	return z, nil
}

// offsets are those of the session's zone at some instants. Behind the last TIMESTAMP the last one goes on.
func (c *conn) offsets(ctx context.Context, at []int64) ([]int64, error) {
	all := make([]int64, 0, len(at))
	for part := range slices.Chunk(at, 1000) {
		q := "SELECT 0"
		for _, unix := range part {
			q += fmt.Sprintf(", TIMESTAMPDIFF(SECOND, '1970-01-01', FROM_UNIXTIME(%d)) - %d", unix, unix)
		}
		err := c.ask(ctx, q, func(v []any) error {
			for _, offset := range v[1:] {
				seconds, ok := offset.(int64)
				if !ok && len(all) > 0 {
					seconds = all[len(all)-1]
				}
				all = append(all, seconds)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// inZone gives rows that are to be written their times in the zone of a session, which is local where each of them has
// one meaning there.
func inZone(rows rowset.Rows, local *zone) (rowset.Rows, *zone) {
	if len(rows.Instants) == 0 || local == utc {
		return rows, local
	}
	var columns []int
	for i, c := range rows.Columns {
		if slices.Contains(rows.Instants, c) {
			columns = append(columns, i)
		}
	}
	z, width := local, len(rows.Columns)
	for at := 0; at < len(rows.Values) && z == local; at += width {
		for _, i := range columns {
			if t, ok := rows.Values[at+i].(string); ok && local.twice(t) {
				z = local.now()
			}
		}
	}
	rows.Values = slices.Clone(rows.Values)
	for at := 0; at < len(rows.Values); at += width {
		for _, i := range columns {
			rows.Values[at+i] = convert(rows.Values[at+i], utc, z)
		}
	}
	rows.Instants = nil
	return rows, z
}

// zoneFacts asks for the zone and describes it. It fails when the server does not know the one that is set.
func (s *Store) zoneFacts(ctx context.Context, f *Facts) error {
	local, err := s.askZone(ctx)
	if err != nil {
		return err
	}
	now := time.Now()
	if f.Zone = local.name; local.now().name != local.name {
		f.Zone += ", now " + local.now().name
	}
	f.Summer = local.offsetAt(now.AddDate(0, 6, 0).Unix()) != local.offsetAt(now.Unix())
	s.zones.mu.Lock()
	defer s.zones.mu.Unlock()
	f.OtherZone = s.o.Zone == "" && strings.Contains(s.zones.said, "time_zone") // in init_connect
	return nil
}

// fillTimes sets the times of an environment in the session's zone, unless it has them.
func (c *conn) fillTimes(ctx context.Context, p *rule.Plan, e *rule.Env) error {
	if !e.Now.IsZero() || !p.TakesTime {
		return nil
	}
	return c.readTimes(ctx, p, e)
}

func (c *conn) readTimes(ctx context.Context, p *rule.Plan, e *rule.Env) error {
	err := c.ask(ctx, "SELECT NOW(6)", func(v []any) (err error) {
		e.Now, err = asTime(v[0])
		return err
	})
	e.Since, e.Until = p.Window(e.Now)
	return err
}
