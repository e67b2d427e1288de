package store

import (
	"errors"
	"testing"

	"syncgate/rule"
)

const phishing = `CREATE TABLE phishing_log (
	url VARCHAR(100) PRIMARY KEY, ip VARCHAR(64) NOT NULL, hits INT NOT NULL, update_time DATETIME(6) NULL) ENGINE = InnoDB`

func phishingPlan(t testing.TB, s *Store, chain, sql string) *rule.Plan {
	t.Helper()
	return planOf(t, s, uploadRule("phishing_log", `["url","ip","hits"]`, chain, sql))
}

const (
	insertSQL = "-- downside: insert\nINSERT INTO phishing_log (url, ip, hits) VALUES (:url, :ip, :hits)\n"
	updateSQL = "-- downside: update\nUPDATE phishing_log SET ip = :ip, hits = :hits WHERE url = :url\n"
)

func TestApplyOnce(t *testing.T) {
	s := open(t)
	exec(t, s, phishing)
	p := phishingPlan(t, s, "", insertSQL)
	u := upload(p, "p1", 1, []any{"a", "1.1.1.1", int64(3)}, []any{"b", "2.2.2.2", int64(4)})

	o := applied(t, s, u)
	equal(t, "applied", o.Applied, 2)
	equal(t, "by insert", o.ByOp["insert"], 2)
	equal(t, "duplicate", o.Duplicate, false)

	o = applied(t, s, u)
	equal(t, "applied again", o.Applied, 2)
	equal(t, "by insert again", o.ByOp["insert"], 2)
	equal(t, "duplicate again", o.Duplicate, true)
	equal(t, "rows", one(t, s, "SELECT COUNT(*) FROM phishing_log"), "2")

	u.Hash[0]++
	if err := s.Apply(testContext(t), []*Upload{u})[0].Err; !errors.Is(err, ErrReused) {
		t.Errorf("other content under the same id: %v", err)
	}
}

func TestChainFallsThrough(t *testing.T) {
	s := open(t)
	exec(t, s, phishing)
	exec(t, s, "INSERT INTO phishing_log VALUES ('b', 'old', 0, NULL)")
	p := phishingPlan(t, s, "", insertSQL+updateSQL)
	o := applied(t, s, upload(p, "p1", 1,
		[]any{"a", "1", int64(1)}, []any{"b", "2", int64(2)}, []any{"c", "3", "not a number"}, []any{"d", "4", int64(4)}))
	equal(t, "applied", o.Applied, 3)
	equal(t, "inserted", o.ByOp["insert"], 2)
	equal(t, "updated", o.ByOp["update"], 1)
	if len(o.Quarantined) != 1 || o.Quarantined[0].Row != 2 || o.Quarantined[0].Code != 1366 {
		t.Errorf("quarantined: %+v", o.Quarantined)
	}
	equal(t, "b", one(t, s, "SELECT CONCAT(ip, hits) FROM phishing_log WHERE url = 'b'"), "22")
	equal(t, "aside", one(t, s, "SELECT row_values FROM sync_quarantine"), `{"url": "c", "ip": "3", "hits": "not a number"}`)

	again := applied(t, s, upload(p, "p1", 1,
		[]any{"a", "1", int64(1)}, []any{"b", "2", int64(2)}, []any{"c", "3", "not a number"}, []any{"d", "4", int64(4)}))
	equal(t, "duplicate", again.Duplicate, true)
	equal(t, "updated before", again.ByOp["update"], 1)
	equal(t, "aside before", again.Quarantined[0].Code, 1366)
}
