package store

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"testing"

	"syncgate/rule"
)

const run = 1 << GenerationBits

// streamWorld is a table that counts in a trigger how often its rows were written.
func streamWorld(t *testing.T) (*Store, *rule.Plan) {
	t.Helper()
	s := open(t)
	exec(t, s, "CREATE TABLE log (id INT PRIMARY KEY, title VARCHAR(40))")
	exec(t, s, "CREATE TABLE written (id INT, title VARCHAR(40))")
	exec(t, s, "CREATE TRIGGER i AFTER INSERT ON log FOR EACH ROW INSERT INTO written VALUES (NEW.id, NEW.title)")
	exec(t, s, "CREATE TRIGGER u AFTER UPDATE ON log FOR EACH ROW INSERT INTO written VALUES (NEW.id, NEW.title)")
	return s, planOf(t, s, uploadRule("log", "", "", ""))
}

// link is an upload of one row in a stream; begin is one that begins a generation.
func link(p *rule.Plan, point string, seq uint64, id int, title string) *Upload {
	u := upload(p, point, seq, []any{int64(id), title})
	u.State, u.Table = fmt.Appendf(nil, "state %d", id), "log"
	return u
}

func begin(point string, seq, after uint64) *Upload {
	return &Upload{Point: point, Epoch: 1, Seq: seq, After: after, Table: "log",
		Hash: sha256.Sum256(fmt.Append(nil, seq))}
}

func reused(t *testing.T, s *Store, u *Upload) Reached {
	t.Helper()
	o := s.Apply(testContext(t), []*Upload{u})[0]
	var e *ReusedError
	if !errors.As(o.Err, &e) {
		t.Fatalf("upload %x: %v, want a ReusedError", u.Seq, o.Err)
	}
	return e.Reached
}

func reachedIs(t *testing.T, what string, got Reached, seq uint64, state string) {
	t.Helper()
	if got.Seq != seq || string(got.State) != state {
		t.Errorf("%s: reached %x %q, want %x %q", what, got.Seq, got.State, seq, state)
	}
}

func TestStreamAppliesOnlyTheNext(t *testing.T) {
	s, p := streamWorld(t)
	reachedIs(t, "no run was begun", reused(t, s, link(p, "a", run+1, 1, "one")), 0, "")
	reachedIs(t, "a new stream", applied(t, s, begin("a", run, run)).Reached, 0, "")
	reachedIs(t, "a number is missing", reused(t, s, link(p, "a", run+2, 2, "two")), run, "")
	first := link(p, "a", run+1, 1, "one")
	equal(t, "applied", applied(t, s, first).Applied, 1)
	again := applied(t, s, first)
	equal(t, "the stored reply", fmt.Sprint(again.Duplicate, again.Applied, again.ByOp), "true 1 map[insert:1]")
	reachedIs(t, "other content", reused(t, s, link(p, "a", run+1, 1, "uno")), run+1, "state 1")
	applied(t, s, link(p, "a", run+2, 2, "two"))
	reachedIs(t, "an old one", reused(t, s, first), run+2, "state 2")
	equal(t, "written", one(t, s, "SELECT GROUP_CONCAT(id, title ORDER BY id) FROM written"), "1one,2two")
	equal(t, "the other ledger", one(t, s, "SELECT COUNT(*) FROM sync_request"), "0")
}

func TestStreamRunsFollowEachOther(t *testing.T) {
	s, p := streamWorld(t)
	applied(t, s, begin("a", run, run))
	applied(t, s, link(p, "a", run+1, 1, "one"))
	applied(t, s, link(p, "a", run+2, 2, "two"))
	// The point crashed and remembers only the first.
	reachedIs(t, "the next run", applied(t, s, begin("a", 5*run, run+1)).Reached, run+2, "state 2")
	reachedIs(t, "its beginning again", applied(t, s, begin("a", 5*run, run+1)).Reached, 5*run, "state 2")
	reachedIs(t, "late from the generation before", reused(t, s, link(p, "a", run+3, 3, "late")), 5*run, "state 2")
	applied(t, s, link(p, "a", 5*run+1, 3, "three"))
	// A copy of the point's database from the first run.
	reachedIs(t, "a copy", reused(t, s, begin("a", 3*run, run+2)), 5*run+1, "state 3")
	// The centre was restored: it has less than the point knows of.
	reachedIs(t, "the point knows more", applied(t, s, begin("a", 9*run, 8*run+7)).Reached, 5*run+1, "state 3")
	equal(t, "written", one(t, s, "SELECT GROUP_CONCAT(title ORDER BY id) FROM written"), "one,two,three")
}

// Small uploads of several streams and of none share a transaction. One that is not the next makes all run one by one.
func TestStreamsShareATransaction(t *testing.T) {
	s, p := streamWorld(t)
	var all []*Upload
	for i := range 20 {
		point := fmt.Sprint("p", i)
		applied(t, s, begin(point, run, run))
		all = append(all, link(p, point, run+1, i, "streamed"), upload(p, point, 7, []any{int64(100 + i), "plain"}))
	}
	for _, o := range s.Apply(testContext(t), all) {
		if o.Err != nil || o.Duplicate || o.Applied != 1 {
			t.Fatalf("%+v", o)
		}
	}
	equal(t, "statements", one(t, s, "SELECT COUNT(DISTINCT updated_at) FROM sync_stream"), "2") // of 16 and of 4
	for i := range 20 {
		all[2*i] = link(p, fmt.Sprint("p", i), run+2, 200+i, "streamed")
	}
	all[6].Seq++
	for i, o := range s.Apply(testContext(t), all) {
		if i == 6 && !errors.Is(o.Err, ErrReused) || i != 6 && (o.Err != nil || o.Duplicate != (i%2 == 1)) {
			t.Errorf("upload %d: %+v", i, o)
		}
	}
	equal(t, "written once", one(t, s, "SELECT CONCAT(COUNT(*), ' ', COUNT(DISTINCT id)) FROM written"), "59 59")
}

// Several connections send the same stream, as a killed agent and its successor do.
func TestStreamIsAppliedOnceByMany(t *testing.T) {
	s, p := streamWorld(t)
	applied(t, s, begin("a", run, run))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 30 {
				u := link(p, "a", run+1+uint64(i), i, "x")
				for {
					o := s.Apply(testContext(t), []*Upload{u})[0]
					var e *ReusedError
					if o.Err == nil || errors.As(o.Err, &e) && e.Seq > u.Seq {
						break
					}
					if !errors.Is(o.Err, ErrRetry) {
						t.Error(o.Err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	equal(t, "written once", one(t, s, "SELECT CONCAT(COUNT(*), ' ', COUNT(DISTINCT id)) FROM written"), "30 30")
}

func TestStreamsAreBounded(t *testing.T) {
	s, p := streamWorld(t)
	for epoch := range uint64(streamsKept + 5) {
		u := begin("a", run, run)
		u.Epoch = epoch + 1
		applied(t, s, u)
	}
	equal(t, "streams", one(t, s, "SELECT CONCAT(COUNT(*), ' ', MIN(epoch)) FROM sync_stream"), "16 6")
	refused := begin("a", 2*run, run)
	refused.Refused = errSplit
	if o := s.Apply(testContext(t), []*Upload{refused}); !errors.Is(o[0].Err, errSplit) {
		t.Error(o)
	}
	// A rule that was edited does not hide what was applied.
	u := link(p, "a", run+1, 1, "one")
	u.Epoch = 21
	applied(t, s, u)
	u.Refused = errSplit
	equal(t, "the stored reply", applied(t, s, u).Duplicate, true)
	next := link(p, "a", run+2, 2, "two")
	next.Epoch, next.Refused = 21, errSplit
	if o := s.Apply(testContext(t), []*Upload{next}); !errors.Is(o[0].Err, errSplit) {
		t.Error(o)
	}
}
