package gateway

import (
	"context"
	"errors"
	"fmt"
	"github.com/rs/zerolog"
	"slices"
	"strings"
	"testing"
	"time"

	"syncgate/business"
	"syncgate/protocol"
	"syncgate/store"
)

func TestSyncLog(t *testing.T) {
	w := newWorld(t)
	k := w.enrol(pointName)
	w.rule("hits", "upload", "*", upsert)
	w.rule("hits", "download", "*", "-- upside\nselect id, url from hits")
	w.serve()
	c := w.connect(k)
	var lines []store.LogLine
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	defer cancel()
	enough := errors.New("enough")
	follow := func(f store.LogFilter, n int) []store.LogLine {
		t.Helper()
		lines = nil
		err := w.FollowLog(ctx, f, func(more []store.LogLine) error {
			if lines = append(lines, more...); len(lines) >= n {
				return enough
			}
			return nil
		})
		if !errors.Is(err, enough) {
			t.Fatal(err, lines)
		}
		return lines
	}
	c.Ask(protocol.OpUpload, id(1), upload("hits", int64(1), "a", int64(2), strings.Repeat("long", 10)))
	c.Ask(protocol.OpUpload, id(2), upload("hits", int64(3), "c"))
	c.Ask(protocol.OpUpload, id(3), upload("nothing", int64(3), "c"))
	c.Ask(protocol.OpDownload, id(4), &protocol.DownloadRequest{Table: "hits"})
	got := follow(store.LogFilter{Point: pointName, Table: "hits", Type: "upload"}, 1)
	for ctx.Err() == nil { // the two uploads may lie in two seconds
		rows, batches := uint64(0), uint64(0)
		for _, l := range got {
			rows, batches = rows+l.Rows, batches+l.Batches
		}
		if batches == 2 {
			if rows != 2 || got[0].Status != 0 || got[0].Text != "1 rows put into sync_quarantine" {
				t.Errorf("%+v", got)
			}
			break
		}
		got = append(got, follow(store.LogFilter{Table: "hits", Type: "upload", After: got[len(got)-1].ID}, 1)...)
	}
	failed := follow(store.LogFilter{Failed: true}, 1)
	if l := failed[0]; l.Status != uint16(protocol.StatusUnknownTable) && l.Status != uint16(protocol.StatusNoRule) ||
		l.Table != "nothing" || l.Text == "" || l.Batches != 1 {
		t.Errorf("%+v", failed)
	}
	if down := follow(store.LogFilter{Type: "download"}, 1); down[0].Rows != 2 ||
		down[0].At.Before(time.Now().Add(-waitLimit)) {
		t.Errorf("%+v", down)
	}
	w.eventually("four lines can be selected", func() bool {
		return w.one(`SELECT CONCAT(SUM(row_count), ' ', SUM(batches), ' ', MAX(status) > 0) FROM sync_log WHERE `+
			`point_no = ?`, pointName) == "4 4 1"
	})
	// A reader that resumes behind a line gets what comes later, and no line twice.
	all, err := w.store.Log(ctx, store.LogFilter{Limit: 100})
	if err != nil || len(all) < 3 {
		t.Fatal(all, err)
	}
	if got := follow(store.LogFilter{After: all[0].ID}, len(all)-1); !slices.Equal(got, all[1:]) {
		t.Errorf("%+v, want %+v", got, all[1:])
	}
	// What is too old is deleted.
	w.exec(`UPDATE sync_log SET at = at - INTERVAL 2 HOUR WHERE id = ?`, all[0].ID)
	if err := w.store.PurgeLog(ctx, time.Hour, 1_000_000); err != nil {
		t.Fatal(err)
	}
	if err := w.store.PurgeLog(ctx, time.Hour, 1); err != nil {
		t.Fatal(err)
	}
	if got := w.one(`SELECT GROUP_CONCAT(id) FROM sync_log`); got != w.one(`SELECT MAX(id) FROM sync_log`) {
		t.Errorf("kept lines %s", got)
	}
}

// While nothing can be written, the newest lines are kept and the others are counted.
func TestSyncLogIsBounded(t *testing.T) {
	l := newSyncLog(zerolog.Nop())
	for i := range logWaiting + 5 {
		l.add(store.LogLine{At: time.Unix(int64(i), 0)})
	}
	first := l.take()
	if len(first) != logAtOnce || first[0].At != time.Unix(5, 0) || l.lost() != 5 {
		t.Fatal(len(first), first[0], l.lost())
	}
	l.wrote(first)
	if next := l.take(); next[0].At != time.Unix(5+logAtOnce, 0) {
		t.Fatal(next[0])
	}
}

// A point that asks for one made-up table after the other does not keep the lines of others out.
func TestSyncLogOfOnePoint(t *testing.T) {
	l := newSyncLog(zerolog.Nop())
	ask := func(point, table string) {
		m := &protocol.Message{Op: protocol.OpUpload, Body: &protocol.UploadRequest{Table: table}}
		l.answered(&business.Request{Point: point, Message: m}, m.Reply(protocol.StatusNoRule, &protocol.ErrorReply{}),
			time.Now())
	}
	for i := range 2 * logWaiting {
		ask("greedy", fmt.Sprint("t", i))
	}
	ask("ordinary", "t")
	l.pass()
	lines := l.take()
	batches := uint64(0)
	for _, line := range lines {
		batches += line.Batches
	}
	if len(lines) != logOfPoint+2 || batches != 2*logWaiting+1 || l.lost() != 0 {
		t.Errorf("%d lines of %d requests, %d lost", len(lines), batches, l.lost())
	}
}

func TestFeedTellsWhatWasMissed(t *testing.T) {
	f := feed[int]{most: 4}
	f.add(1)
	at, leave := f.join()
	defer leave()
	for i := range 20 {
		f.add(i)
	}
	items, at, missed, err := f.read(t.Context(), at)
	if err != nil || missed+uint64(len(items)) != 20 || len(items) < 4 || items[len(items)-1] != 19 {
		t.Fatal(items, missed, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, _, err := f.read(ctx, at); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
}
