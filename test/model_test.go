package test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"syncgate/crypto"
	"syncgate/internal/pyliteral"
	"syncgate/internal/rowset"
	"syncgate/protocol"
	"syncgate/rule"
	"syncgate/store"
	"syncgate/store/localdb/localdbtest"
)

const (
	seedTable = "CREATE TABLE seed (k VARCHAR(10) NOT NULL PRIMARY KEY, n INT NOT NULL, s VARCHAR(60) NULL UNIQUE, " +
		"d DATETIME(6) NULL, x DOUBLE NOT NULL DEFAULT 0, ti TIME NULL)"
	seedIDTable = "CREATE TABLE seed_id (id INT NOT NULL PRIMARY KEY AUTO_INCREMENT, k VARCHAR(10) NOT NULL, n INT " +
		"NOT NULL, s VARCHAR(60) NULL UNIQUE)"
	strictMode = "STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
)

// seedWorld has a database for the model and one for syncgate, which reads packets of the v1 wire.
type seedWorld struct {
	t     testing.TB
	model *seedModel
	db    *DB
	store *store.Store
	wire  *protocol.Legacy
	agent *legacyClient
	seq   uint64
	used  bool // the tables are not as reset made them
}

func newSeedWorld(t testing.TB, mode string) *seedWorld {
	t.Helper()
	dsn := localdbtest.New(t)
	w := &seedWorld{t: t, model: newSeedModel(t, localdbtest.New(t), mode), db: Open(t, dsn),
		agent: &legacyClient{t: t, dialect: pyliteral.Python2}}
	var err error
	if w.store, err = store.Open(t.Context(), store.Options{DSN: dsn, AcceptUnsafe: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.store.Close() })
	if err := w.store.Migrate(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if w.agent.cbc, err = crypto.NewCBC([]byte(legacyKey), []byte(legacyKey)); err != nil {
		t.Fatal(err)
	}
	w.wire, err = protocol.NewLegacy(protocol.LegacyOptions{Key: []byte(legacyKey), TokenKey: legacyTokenKey,
		Zone: time.UTC, Clock: time.Now,
		Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Allow: func(string) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	w.both(seedTable)
	w.both(seedIDTable)
	return w
}

// both runs a statement on both databases.
func (w *seedWorld) both(query string) {
	w.t.Helper()
	w.db.Must(query)
	w.model.db.Must(query)
}

// upload applies rows with syncgate, from the packet to the table. For a rule that is refused it returns an outcome
// whose Err holds the diagnostics.
func (w *seedWorld) upload(row rule.Row, rows []pyliteral.Tuple) store.Outcome {
	w.t.Helper()
	plan, ds := w.plan(row)
	if plan == nil {
		return store.Outcome{Err: errors.New(fmt.Sprint(ds))}
	}
	list := pyliteral.List{}
	for _, row := range rows {
		list = append(list, row)
	}
	request, err := w.receive("UPLOAD_DB", row.Table, list).UploadRequest()
	if err != nil {
		w.t.Fatal(err)
	}
	w.seq++
	return w.store.Apply(w.t.Context(),
		[]*store.Upload{{Point: pointName, Epoch: 1, Seq: w.seq, Plan: plan, Rows: request.Rows}})[0]
}

// receive is what syncgate reads from an agent's packet.
func (w *seedWorld) receive(typ, table string, content pyliteral.Value) *protocol.Message {
	w.t.Helper()
	session, err := w.wire.NewSession(netip.MustParseAddr("127.0.0.1"))
	if err != nil {
		w.t.Fatal(err)
	}
	e, err := session.Receive(w.agent.packet(pointName, typ, table, content))
	if err != nil || e.Message == nil {
		w.t.Fatalf("%v, %v", err, session.Cause())
	}
	return e.Message
}

func (w *seedWorld) plan(row rule.Row) (*rule.Plan, []rule.Diagnostic) {
	w.t.Helper()
	facts, err := w.store.Table(w.t.Context(), row.Table)
	if err != nil {
		w.t.Fatal(err)
	}
	return rule.Compile(row, facts)
}

// download is what syncgate sends for the content of a request: the rows of each statement as texts.
func (w *seedWorld) download(row rule.Row, content pyliteral.Value, now time.Time) ([][]string, error) {
	w.t.Helper()
	plan, ds := w.plan(row)
	if plan == nil {
		return nil, errors.New(fmt.Sprint(ds))
	}
	request, err := w.receive("DOLOAD_DB", row.Table, content).DownloadRequest()
	if err != nil {
		w.t.Fatal(err)
	}
	since, until := plan.Window(now)
	var sink texts
	_, err = w.store.Read(w.t.Context(), plan,
		rule.Env{Since: since, Until: until, Now: now, State: request.State}, &sink)
	return sink, err
}

// texts is a store.Sink that keeps each row as a text.
type texts [][]string

func (s *texts) Begin(int, []rowset.Column) error { *s = append(*s, nil); return nil }

func (s *texts) Row(values []any) error {
	var cells []string
	for _, v := range values {
		switch v := v.(type) {
		case nil:
			cells = append(cells, "NULL")
		case []byte:
			cells = append(cells, string(v))
		default:
			cells = append(cells, fmt.Sprint(v))
		}
	}
	last := &(*s)[len(*s)-1]
	*last = append(*last, strings.Join(cells, " | "))
	return nil
}

const (
	seedRows = "SELECT CONCAT_WS(' | ', k, n, IFNULL(s, 'NULL'), IFNULL(d, 'NULL'), x, IFNULL(ti, 'NULL')) FROM " +
		"seed ORDER BY k"
	seedIDRows = "SELECT CONCAT_WS(' | ', k, n, IFNULL(s, 'NULL')) FROM seed_id ORDER BY k"
)

// reset gives the tables the rows that each case begins with.
func (w *seedWorld) reset() {
	w.t.Helper()
	w.used = false
	w.both("DELETE FROM seed")
	w.both("DELETE FROM seed_id")
	w.both("INSERT INTO seed (k, n, s, d) VALUES ('a', 1, '007', '2026-01-06'), ('e', 2, '7', '2025-12-02'), ('l', " +
		"3, '100.0', '2026-01-10 11:00:00'),('m', 4, '1e+16', NULL), ('n', 5, '100% off', NULL), ('o', 6, '0', " +
		"NULL), ('p', 7, 'word', NULL)")
	w.both("INSERT INTO seed_id (k, n, s) VALUES ('z', 9, 'there')")
}

// tables are the rows of the model and of syncgate.
func (w *seedWorld) tables() (model, here []string) {
	w.t.Helper()
	here = append(column(w.t, w.db, seedRows), column(w.t, w.db, seedIDRows)...)
	return append(column(w.t, w.model.db, seedRows), column(w.t, w.model.db, seedIDRows)...), here
}

// documentedDifferences are the first cells of the table in docs/seed-semantics.md.
func documentedDifferences(t testing.TB) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(Root(t), "docs", "seed-semantics.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| | the original | here | reason |\n|---|---|---|---|\n")
	all := map[string]bool{}
	for _, line := range strings.Split(table, "\n") {
		if cells := strings.Split(line, " | "); len(cells) == 4 {
			all[strings.TrimPrefix(cells[0], "| ")] = true
		}
	}
	return all
}

// TestSeedTable runs a table of rules of the original in the model and in syncgate, from the packet to the table or the
// rows. What they do is alike, or docs/seed-semantics.md lists the difference. Every rule that syncgate runs is then
// converted to plain SQL, and the same packet gives the same once more.
func TestSeedTable(t *testing.T) {
	t.Parallel()
	w := newSeedWorld(t, strictMode)
	documented := documentedDifferences(t)
	shown := map[string]bool{
		// These have a test of their own below.
		"a row that no operation takes": true, "a deadlock, a lock wait": true, "a session that is not strict": true,
	}
	now := time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC)
	for _, c := range append(seedUploads(), seedDownloads()...) {
		model, here := w.run(c, c.row, now)
		diff := cmp.Diff(model, here)
		if c.differs == "" && diff != "" || c.differs != "" && !documented[c.differs] {
			t.Errorf("%s: the document does not list %q\n%+v\n(-model +here)\n%s", c.name, c.differs, c.row, diff)
		}
		shown[c.differs] = shown[c.differs] || diff != ""
		if c.differs == unmatchedFirst {
			w.model.fallThrough = true
			if model, here := w.run(c, c.row, now); cmp.Diff(model, here) != "" {
				t.Errorf("%s, had the original gone on (-model +here)\n%s", c.name, cmp.Diff(model, here))
			}
			w.model.fallThrough = false
		}
		facts, err := w.store.Table(t.Context(), c.row.Table)
		if err != nil {
			t.Fatal(err)
		}
		if plan, _ := rule.Compile(c.row, facts); plan == nil {
			continue
		}
		plain, _, err := rule.Convert(c.row, facts)
		if plan, ds := rule.Compile(plain, facts); err != nil || plan == nil || plan.Form != rule.Named {
			t.Errorf("%s is converted to %s: %v, %v", c.name, plain.SQL, err, ds)
		}
		if _, converted := w.run(c, plain, now); cmp.Diff(here, converted) != "" {
			t.Errorf("%s: converted to %s (-before +after)\n%s", c.name, plain.SQL, cmp.Diff(here, converted))
		}
	}
	for name := range documented {
		if !shown[name] {
			t.Errorf("the document lists %q, and no rule shows it", name)
		}
	}
}

// run gives what the model makes of a case, and what syncgate makes of it by a row: the tables, or the rows that are
// sent.
func (w *seedWorld) run(c seedCase, row rule.Row, now time.Time) (model, here []string) {
	w.t.Helper()
	if row.Type == rule.Download && row.User == rule.Server {
		if w.used {
			w.reset()
		}
		return flat(w.model.download(c.row, c.content, now)), flat(w.download(row, c.content, now))
	}
	w.reset()
	w.used = true
	w.model.upload(c.row, c.rows)
	outcome := w.upload(row, c.rows)
	if model, here = w.tables(); outcome.Err != nil {
		here = []string{outcome.Err.Error()}
	}
	return model, here
}

func flat(lists [][]string, err error) (all []string) {
	if err != nil {
		return []string{err.Error()}
	}
	for _, rows := range lists {
		all = append(append(all, rows...), "end")
	}
	return all
}

// TestSeedModel runs random rows through random chains, in the model and in syncgate. The tables are equal afterwards.
// The two differ on purpose where an update or delete comes before another operation; there the test has the model fall
// through.
func TestSeedModel(t *testing.T) {
	t.Parallel()
	w := newSeedWorld(t, strictMode)
	text := func(all ...string) []pyliteral.Value {
		var values []pyliteral.Value
		for _, s := range all {
			values = append(values, pyliteral.Unicode(s))
		}
		return values
	}
	day := pyliteral.DateTime{Year: 2026, Month: 1, Day: 2}
	pools := [][]pyliteral.Value{
		append(text("a", "b", "c", "d", "é", "far too long for it"), nil),
		append(text("2", "", "many", "1.50"), int64(0), int64(-7), pyliteral.Long(3), pyliteral.Decimal("41.0"),
			int64(1)<<40, 1.5, nil),
		append(text("", "x", "y", "中文 😀", "%s %", ":k ?", "it's", `"`, "None", "NULL", strings.Repeat("z", 61)),
			pyliteral.Str("bytes"), int64(5), 100.0, nil),
		append(text("2026-01-02 03:04:05", "not a date", "0000-00-00", ""), day,
			pyliteral.DateTime{Year: 2026, Month: 1, Day: 2, Microsecond: 7},
			pyliteral.Date{Year: 2024, Month: 2, Day: 29}, nil),
	}
	rapid.Check(t, func(r *rapid.T) {
		chain := rapid.SampledFrom(seedChains).Draw(r, "chain")
		rows := rapid.SliceOfN(rapid.Custom(func(r *rapid.T) pyliteral.Tuple {
			row := make(pyliteral.Tuple, len(pools))
			for i, pool := range pools {
				row[i] = rapid.SampledFrom(pool).Draw(r, seedFields[i])
			}
			return row
		}), 1, 12).Draw(r, "rows")
		w.reset()
		w.model.fallThrough = differs(chain...) != ""
		row := chainOf(chain...).row("downside", seedSpellings[0])
		taken, outcome := w.model.upload(row, rows), w.upload(row, rows)
		if outcome.Err != nil {
			r.Fatal(outcome.Err)
		}
		model, here := w.tables()
		if d := cmp.Diff(model, here); d != "" {
			r.Fatalf("(-model +here)\n%s", d)
		}
		byOp := map[string]uint64{}
		for _, op := range taken {
			byOp[op]++
		}
		lost := byOp[""]
		delete(byOp, "")
		if w.model.fallThrough && (cmp.Diff(byOp, outcome.ByOp) != "" || int(lost) != len(outcome.Quarantined)) {
			r.Fatalf("the model took %v and lost %d, here it is %+v", byOp, lost, outcome)
		}
	})
}

// The original used the mode of the server, and MySQL's default cut values and made up numbers for a long time. The
// session of syncgate is strict, so such a row is quarantined.
func TestSeedLenientMode(t *testing.T) {
	t.Parallel()
	w := newSeedWorld(t, "")
	rows := []pyliteral.Tuple{{pyliteral.Str("a"), pyliteral.Str("many"), pyliteral.Str(strings.Repeat("z", 61)),
		pyliteral.Str("soon")}}
	row := chainOf("insert").row("downside", seedSpellings[0])
	w.model.upload(row, rows)
	outcome := w.upload(row, rows)
	model, here := w.tables()
	want := []string{"a | 0 | " + strings.Repeat("z", 60) + " | 0000-00-00 00:00:00.000000 | 0 | NULL"}
	if cmp.Diff(want, model) != "" || len(here) != 0 || len(outcome.Quarantined) != 1 {
		t.Errorf("the model has %q; here is %q, %+v", model, here, outcome)
	}
}

// For the original a deadlock was an error like any other: it tried the update, which matched nothing, and the row
// counted as done. syncgate rolls the whole batch back and applies it when it comes again.
func TestSeedDeadlock(t *testing.T) {
	t.Parallel()
	w := newSeedWorld(t, strictMode)
	w.both("CREATE TRIGGER deadlock BEFORE INSERT ON seed FOR EACH ROW SIGNAL SQLSTATE '40001' SET MYSQL_ERRNO = 1213")
	rows, row := []pyliteral.Tuple{{pyliteral.Str("a"), int64(1), nil, nil}}, chainOf("insert", "update").
		row("downside", seedSpellings[0])
	if taken := w.model.upload(row, rows); taken[0] != "update" {
		t.Errorf("the model has it taken by %q", taken)
	}
	if outcome := w.upload(row, rows); !errors.Is(outcome.Err, store.ErrRetry) {
		t.Errorf("%+v", outcome)
	}
	w.both("DROP TRIGGER deadlock")
	if outcome := w.upload(row, rows); outcome.Err != nil {
		t.Error(outcome.Err)
	}
	if model, here := w.tables(); len(model) != 0 || len(here) != 1 {
		t.Errorf("the model has %q, here is %q", model, here)
	}
}
