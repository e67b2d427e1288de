package store

import (
	"context"
	"slices"
	"time"

	"syncgate/rule"
)

// LogLine is a row of sync_log: what moved or failed in one second, or a line of a run that somebody asked for.
type LogLine struct {
	ID      uint64    `json:"id"`
	At      time.Time `json:"at"`
	Point   string    `json:"point"`
	Table   string    `json:"table"`
	Type    string    `json:"type"` // upload, download, or the name of another request that failed
	Rows    uint64    `json:"rows"`
	Batches uint64    `json:"batches"` // 0: a line of a run
	Ms      uint64    `json:"ms"`
	Status  uint16    `json:"status"` // 0: done
	Text    string    `json:"text,omitempty"`

	// Of a request that is shown when it is answered, and not in sync_log:
	Bytes  uint64 `json:"bytes,omitempty"`  // of the payloads of request and replies
	Values string `json:"values,omitempty"` // of its first rows, escaped and cut
}

// LogFilter chooses lines. A field that is empty chooses all.
type LogFilter struct {
	Point, Table, Type string
	Status             uint16
	Failed             bool   // only lines whose status is not 0
	After              uint64 // only lines with a higher id
	Limit              int    // lines at most; with After the first ones, without it the last ones
}

// Matches reports whether the filter chooses a line, wherever it stands.
func (f *LogFilter) Matches(l *LogLine) bool {
	return (f.Point == "" || f.Point == l.Point) && (f.Table == "" || f.Table == l.Table) &&
		(f.Type == "" || f.Type == l.Type) && (f.Status == 0 || f.Status == l.Status) && (!f.Failed || l.Status != 0)
}

// Log reads lines of sync_log in the order of id.
func (s *Store) Log(ctx context.Context, f LogFilter) ([]LogLine, error) {
	w := conditions{" WHERE id > ?", []any{f.After}}
	w.add(f.Point != "", "point_no = ?", f.Point)
	w.add(f.Table != "", "sync_table = ?", f.Table)
	w.add(f.Type != "", "sync_type = ?", f.Type)
	w.add(f.Status != 0, "status = ?", f.Status)
	w.add(f.Failed, "status <> 0")
	order := " ORDER BY id LIMIT ?"
	if f.After == 0 {
		order = " ORDER BY id DESC LIMIT ?"
	}
	all, err := readAll(ctx, s, `SELECT id, UNIX_TIMESTAMP(at), point_no, sync_table, sync_type, row_count, batches, ms,
		status, message FROM sync_log`+w.where+order, func(l *LogLine) []any {
		return []any{&l.ID, (*unixTime)(&l.At), &l.Point, &l.Table, &l.Type, &l.Rows, &l.Batches, &l.Ms,
			&l.Status, &l.Text}
	}, append(w.args, f.Limit)...)
	if f.After == 0 {
		slices.Reverse(all)
	}
	return all, err
}

// A request may name any table, and an error any text: they are cut to fit their columns.
const (
	logTableMax = 120
	logTextMax  = 900
)

// AppendLog writes lines, which are not too many for one statement, and sets their ids.
func (s *Store) AppendLog(ctx context.Context, lines []LogLine) error {
	const head = "INSERT INTO sync_log " +
		"(at, point_no, sync_table, sync_type, row_count, batches, ms, status, message) VALUES "
	query := rule.InsertParts{Head: head, Tuple: marks(9)}.Rows(len(lines))
	var args []any
	for _, l := range lines {
		args = append(args, stamp(l.At), l.Point, clip(l.Table, logTableMax), l.Type, l.Rows, l.Batches, l.Ms, l.Status,
			clip(l.Text, logTextMax))
	}
	return s.inTx(ctx, func(tx *Tx) error {
		var first, step uint64
		_, err := tx.Exec(ctx, query, args...)
		if err == nil {
			err = tx.One(ctx, "SELECT LAST_INSERT_ID(), @@auto_increment_increment", nil, &first, &step)
		}
		for i := range lines {
			lines[i].ID = first + uint64(i)*step
		}
		return err
	})
}

// PurgeLog deletes the lines that are older than keep, and the first ones where there are more than most.
func (s *Store) PurgeLog(ctx context.Context, keep time.Duration, most uint64) error {
	var last uint64
	err := s.each(ctx, "SELECT COALESCE(MAX(id), 0) FROM sync_log", func(scan scanner) error { return scan(&last) })
	if err != nil {
		return public(err)
	}
	for deleted := int64(purgeRows); deleted == purgeRows; {
		err := s.inTx(ctx, func(tx *Tx) error {
			old, err := tx.Exec(ctx, "DELETE FROM sync_log WHERE at < UTC_TIMESTAMP(3) - INTERVAL ? SECOND "+
				"ORDER BY at LIMIT ?",
				int64(keep.Seconds()), purgeRows)
			if deleted = old; err != nil || last <= most {
				return err
			}
			first, err := tx.Exec(ctx, "DELETE FROM sync_log WHERE id <= ? ORDER BY id LIMIT ?", last-most, purgeRows)
			deleted = max(old, first)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
