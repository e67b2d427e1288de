package test

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

// modelTable is a table of the model: who writes it, where its rows go, and what the writers may do. Its key is the
// writer's name and a number. In a shared table every writer has the name all.
type modelTable struct {
	name, types, conflict string
	changes               bool // else its rule reads by update_time
	centre, points        bool // who writes
	shared                bool // all write the same rows
}

var modelTables = []modelTable{
	{name: "upward", types: "upload", changes: true, points: true},
	{name: "downward", types: "download", changes: true, centre: true},
	{name: "both_ways", types: "upload,download", changes: true, centre: true, points: true},
	{name: "stamped", types: "upload", points: true},
	{name: "centre_wins", types: "upload,download", conflict: "centre", changes: true, centre: true, points: true,
		shared: true},
	{name: "point_wins", types: "upload,download", conflict: "point", changes: true, centre: true, points: true,
		shared: true},
	{name: "newest_wins", types: "upload,download", conflict: "newest", changes: true, centre: true, points: true,
		shared: true},
}

// modelRows are the rows of a table: what a row holds by its key.
type modelRows map[string]string

// site is the centre or a point with its application.
type site struct {
	name   string
	db     *DB
	app    *sql.DB
	writes []modelTable
	ends   []map[string]modelRows // what each session of the application has committed, by table
}

// sessions is how many connections an application writes on.
const sessions = 3

// model is a centre and points, applications that write on all of them, and what they have committed.
type model struct {
	*World
	t        *testing.T
	sites    []*site // the centre first
	versions atomic.Int64
	server   *Process
	agents   []*Process
	links    []*Link
}

// TestChangesModel lets applications at a centre and three points insert, update, delete, move keys, leave transactions
// open and roll back, while processes and databases are killed, lines are cut and rules are edited. When that ends
// every side has what was committed, nothing was applied twice, and nothing came back to where it was written.
// SYNCGATE_CHANGES_TIME says for how long, SYNCGATE_TEST_SEED with which random numbers.
func TestChangesModel(t *testing.T) {
	t.Parallel()
	long, err := time.ParseDuration(os.Getenv("SYNCGATE_CHANGES_TIME"))
	if err != nil {
		long = 10 * time.Second
	}
	r := seeded(t)
	m := newModel(t)
	m.firstRows()
	m.same("before the applications begin")
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	var writers sync.WaitGroup
	for _, s := range m.sites {
		for n := range sessions {
			rnd := rand.New(rand.NewPCG(r.Uint64(), uint64(n)))
			writers.Go(func() { m.write(ctx, s, n, rnd) })
		}
	}
	m.faults(ctx, r)
	writers.Wait()
	m.same("when the applications have ended")
	for _, agent := range m.agents {
		agent.Stop()
	}
	rounds(m.World)
	m.same("when nothing moves any more")
	m.audit()
}

// firstRows writes a row of each writer, so that the first loads are over, and changes are recorded everywhere, when
// all sides have them. The first row of a shared table is the centre's.
func (m *model) firstRows() {
	m.t.Helper()
	for _, s := range m.sites {
		for _, table := range s.writes {
			side := s.name
			switch {
			case !table.shared:
				s.ends[0][table.name] = modelRows{side + " 0": "0 <nil>"}
			case s != m.sites[0]:
				continue
			default:
				side = "all"
			}
			if _, err := s.app.Exec("INSERT INTO "+table.name+" (side, id, v) VALUES (?, 0, 0)", side); err != nil {
				m.t.Fatal(err)
			}
		}
	}
}

// newModel starts everything.
func newModel(t *testing.T) *model {
	t.Helper()
	m := &model{t: t, World: Make(t, Options{Points: 3, Own: true})}
	m.Enrol()
	for i, db := range m.Databases() {
		s := &site{name: "centre", db: db}
		if i > 0 {
			s.name = m.Points[i-1].Name
		}
		for _, table := range modelTables {
			db.Must("CREATE TABLE " + table.name + ` (side VARCHAR(10), id INT, v BIGINT NOT NULL,
				note VARCHAR(60) NULL, update_time TIMESTAMP(6) NOT NULL DEFAULT NOW(6) ON UPDATE NOW(6),
				PRIMARY KEY (side, id), KEY (update_time))`)
			if i == 0 && table.centre || i > 0 && table.points {
				s.writes = append(s.writes, table)
			}
		}
		s.open(t)
		m.sites = append(m.sites, s)
	}
	for _, table := range modelTables {
		args := []string{"rules", "init", table.name, "--point", "*", "--type", table.types, "--both"}
		if table.changes {
			args = append(args, "--changes", "--write")
		}
		if table.conflict != "" {
			args = append(args, "--conflict", table.conflict)
		}
		m.Must(args...)
	}
	m.server = m.Serve()
	for i, p := range m.Points {
		m.links = append(m.links, p.Link())
		m.agents = append(m.agents, nil)
		m.agent(i)
	}
	return m
}

// agent starts the agent of a point. It cannot start without its database, so that is not killed before it has.
func (m *model) agent(i int) {
	m.t.Helper()
	m.agents[i] = m.Points[i].Run("SYNCGATE_AGENT_INTERVAL=100ms", "SYNCGATE_AGENT_FULL_INTERVAL=1s",
		"SYNCGATE_AGENT_BATCH_ROWS=50")
	m.agents[i].WaitLog("agent starts")
}

// open makes the application's account and its journal, and the triggers that write into audit what others write.
func (s *site) open(t *testing.T) {
	t.Helper()
	s.db.Must("CREATE USER app@localhost")
	s.db.Must("GRANT ALL ON *.* TO app@localhost")
	config, err := mysql.ParseDSN(s.db.DSN)
	if err != nil {
		t.Fatal(err)
	}
	config.User, config.Logger = "app", &mysql.NopLogger{} // the test kills the server
	connector, err := mysql.NewConnector(config)
	if err != nil {
		t.Fatal(err)
	}
	s.app = sql.OpenDB(connector)
	t.Cleanup(func() { s.app.Close() })
	s.db.Must("CREATE TABLE journal (session INT, n INT, PRIMARY KEY (session, n))")
	s.db.Must("CREATE TABLE audit (at INT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(20), op CHAR(6), k " +
		"VARCHAR(30), v BIGINT)")
	for _, table := range modelTables {
		for op, row := range map[string]string{"INSERT": "NEW", "UPDATE": "NEW", "DELETE": "OLD"} {
			s.db.Must(fmt.Sprintf(`CREATE TRIGGER audit_%s_%s AFTER %[2]s ON %[1]s FOR EACH ROW
				IF USER() NOT LIKE 'app@%%' THEN INSERT INTO audit (name, op, k, v)
				VALUES ('%[1]s', '%[2]s', CONCAT(%[3]s.side, ' ', %[3]s.id), %[3]s.v); END IF`, table.name, op, row))
		}
	}
	for range sessions {
		s.ends = append(s.ends, map[string]modelRows{})
	}
}

// faults breaks something now and then until ctx ends, and leaves everything running.
func (m *model) faults(ctx context.Context, r *rand.Rand) {
	m.t.Helper()
	did := map[string]int{}
	for !m.t.Failed() {
		select {
		case <-ctx.Done():
			for _, l := range m.links {
				l.Up()
				l.Slow(0)
			}
			m.Centre.Must("UPDATE sync_control SET enabled = 1 WHERE enabled = 0")
			m.t.Logf("faults: %v", did)
			return
		case <-time.After(time.Duration(r.IntN(1500)) * time.Millisecond):
		}
		i := r.IntN(len(m.Points))
		table := modelTables[r.IntN(len(modelTables))].name
		var what string
		switch kind := r.IntN(10); kind {
		case 0:
			what = "server killed"
			m.server.Kill()
			m.server = m.Serve()
		case 1:
			what = "centre's database killed"
			m.Centre.Kill()
		case 2:
			what = "point's database killed"
			m.Points[i].Kill()
		case 3, 4:
			what = "agent killed"
			m.agents[i].Kill()
			m.agent(i)
		case 5:
			what = "line cut"
			m.links[i].Cut()
		case 6:
			what = "line down"
			m.links[i].Down()
		case 7:
			what = "line up"
			for _, l := range m.links {
				l.Up()
				l.Slow(0)
			}
		case 8:
			what = "line slow"
			m.links[i].Slow(time.Duration(r.IntN(200)) * time.Millisecond)
		default:
			what = "rule switched"
			m.Centre.Must("UPDATE sync_control SET enabled = 1 - enabled WHERE sync_table = ?", table)
		}
		did[what]++
		m.t.Logf("%s %s, point %d, table %s", time.Now().Format("15:04:05.000"), what, i+1, table)
	}
}

// same waits until every side has what the applications have committed, and shared tables are the same everywhere.
func (m *model) same(when string) {
	m.t.Helper()
	differ := ""
	Eventually(m.t, func() string { return "the same rows everywhere " + when + differ + m.changes() }, func() bool {
		differ = ""
		for _, table := range modelTables {
			for _, s := range m.sites {
				want := m.expected(table, s)
				if table.shared {
					want = rowsOf(m.t, m.Centre, table)
				}
				if got := rowsOf(m.t, s.db, table); !maps.Equal(want, got) {
					differ += fmt.Sprintf("\n%s at %s: %s", table.name, s.name, differences(want, got))
				}
			}
		}
		return differ == ""
	})
}

// changes are what each site knows of the rows that everybody writes, for a person who looks for the cause.
func (m *model) changes() string {
	var b strings.Builder
	for _, s := range m.sites {
		for _, table := range modelTables {
			if !table.shared {
				continue
			}
			query := "SELECT GROUP_CONCAT(CONCAT(f.id, ' #', f.sync_seq, ' ', COALESCE(f.sync_origin, '-'), ' ', " +
				"TIME(f.sync_at), ' v', COALESCE(t.v, '-')) ORDER BY f.id SEPARATOR ', ') FROM sync_change_" +
				table.name + " f LEFT JOIN " + table.name + " t ON t.side = f.side AND t.id = f.id"
			fmt.Fprintf(&b, "\n%s at %s, complete from %s: %s", table.name, s.name,
				s.db.Text("SELECT CONCAT(complete_from, ', missed ', missed, ', next ', next_seq) FROM sync_sequence "+
					"WHERE sync_table = ?", table.name),
				s.db.Text(query))
			if s != m.sites[0] {
				fmt.Fprintf(&b, "\n  states %s",
					s.db.Text("SELECT GROUP_CONCAT(CONCAT_WS(' ', rule_key, HEX(state)) SEPARATOR ', ') FROM "+
						"sync_agent_state WHERE rule_key LIKE CONCAT('%', ?)", table.name))
			}
		}
	}
	return b.String()
}

// expected is what a site has of a table in the end.
func (m *model) expected(table modelTable, at *site) modelRows {
	all := modelRows{}
	for _, s := range m.sites {
		if at == m.sites[0] || at == s || strings.Contains(table.types, "download") {
			for _, rows := range s.ends {
				maps.Copy(all, rows[table.name])
			}
		}
	}
	return all
}

func rowsOf(t *testing.T, db *DB, table modelTable) modelRows {
	t.Helper()
	found, err := db.Query("SELECT CONCAT(side, ' ', id), CONCAT(v, ' ', COALESCE(note, '<nil>')) FROM " + table.name)
	if err != nil {
		t.Fatal(err)
	}
	defer found.Close()
	rows := modelRows{}
	for found.Next() {
		var key, row string
		if err := found.Scan(&key, &row); err != nil {
			t.Fatal(err)
		}
		rows[key] = row
	}
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	return rows
}

// differences names the first few rows that differ.
func differences(want, got modelRows) string {
	all := maps.Clone(want)
	maps.Copy(all, got)
	var list []string
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if w, g := want[key], got[key]; w != g {
			list = append(list, fmt.Sprintf("%s is %q, want %q", key, g, w))
		}
	}
	return fmt.Sprintf("%d rows differ: %s", len(list), strings.Join(list[:min(len(list), 5)], "; "))
}

// audit checks what syncgate has written: no version of a row twice, and no row where its application writes it.
func (m *model) audit() {
	m.t.Helper()
	for _, s := range m.sites {
		for _, table := range modelTables {
			if table.shared {
				continue
			}
			if n := s.db.Count("SELECT COUNT(*) FROM audit WHERE name = ? AND k LIKE ?", table.name,
				s.name+" %"); n != 0 {
				m.t.Errorf("%d rows of %s came back to %s", n, table.name, s.name)
			}
			if !table.changes {
				continue // a rule that reads by time reads the last rows again
			}
			twice := s.db.Text(`SELECT GROUP_CONCAT(CONCAT(k, ' version ', v, ' ', n, ' times')) FROM
				(SELECT k, v, COUNT(*) n FROM audit WHERE name = ? AND op <> 'DELETE'
				GROUP BY k, v HAVING COUNT(*) > 1 LIMIT 5) twice`, table.name)
			if twice != "" {
				m.t.Errorf("applied twice to %s at %s: %s", table.name, s.name, twice)
			}
		}
		if n := s.db.Count("SELECT COUNT(*) FROM sync_quarantine"); n != 0 {
			m.t.Errorf("%d rows are in quarantine at %s", n, s.name)
		}
		m.t.Logf("%s: %d rows written by syncgate, %d conflicts", s.name, s.db.Count("SELECT COUNT(*) FROM audit"),
			s.db.Count("SELECT COUNT(*) FROM sync_conflict"))
	}
}
