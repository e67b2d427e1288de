package store

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"syncgate/internal/rowset"
	"syncgate/rule"
)

// site is a database in which one table goes both ways: the centre, or a point with what it knows of its own progress.
type site struct {
	name     string
	s, app   *Store
	up, down *rule.Plan
	acked    []rowset.StateItem // the own changes that the centre has
	fetched  []rowset.StateItem // the centre's changes that are here
	seq      uint64
}

const bothWays = "CREATE TABLE goods (a INT, b VARCHAR(20), n INT, PRIMARY KEY (a, b)) ENGINE = InnoDB"

// newSite makes a site whose rules settle conflicts by an option.
func newSite(t testing.TB, name string, option rule.Conflict) *site {
	x := &site{name: name, s: open(t)}
	exec(t, x.s, bothWays)
	recorded(t, x.s, "goods")
	x.app = openDSN(t, x.s.o.DSN)
	user := rule.Client
	if name == rule.AnyPoint {
		user = rule.Server
	}
	options := "-- option: changes, " + string(option)
	x.up = changesPlan(t, x.s, rule.Row{ID: 1, Table: "goods", Type: rule.Upload, User: user, SQL: options})
	x.down = changesPlan(t, x.s, rule.Row{ID: 2, Table: "goods", Type: rule.Download, User: user, SQL: options})
	return x
}

func (x *site) read(t testing.TB, p *rule.Plan, state []rowset.StateItem, origin string) (
	rowset.Rows, []rowset.StateItem,
) {
	t.Helper()
	c := &collect{}
	page, err := x.s.Read(testContext(t), p, rule.Env{State: state, Point: origin, Origin: origin, Limit: 20}, c)
	if err != nil {
		t.Fatal(err)
	}
	rows := rowset.Rows{}
	for _, col := range c.cols {
		rows.Columns = append(rows.Columns, col.Name)
	}
	for _, row := range c.rows {
		rows.Values = append(rows.Values, row...)
	}
	return rows, page.State
}

func known(state []rowset.StateItem) *uint64 {
	n, _ := stateNumber(state, rowset.ChangeSeq)
	return &n
}

// upload is a batch of a point on its way.
type sent struct {
	rows  rowset.Rows
	state []rowset.StateItem
	known *uint64
}

// download fetches and applies one page; no upload of the point is under way.
func (x *site) download(t testing.TB, centre *site) (rows int) {
	t.Helper()
	page, state := centre.read(t, centre.down, x.fetched, x.name)
	if page.Len() > 0 {
		err := x.s.InTx(testContext(t), func(tx *Tx) error {
			_, err := tx.Apply(testContext(t), x.down, page,
				rule.Env{Point: x.name, Origin: rule.AnyPoint, Known: known(x.acked)})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	x.fetched = state
	return page.Len()
}

func (x *site) send(t testing.TB) *sent {
	rows, state := x.read(t, x.up, x.acked, rule.AnyPoint)
	return &sent{rows, state, known(x.fetched)}
}

func (x *site) deliver(t testing.TB, centre *site, b *sent) {
	t.Helper()
	if b.rows.Len() > 0 {
		x.seq++
		u := upload(centre.up, x.name, x.seq)
		u.Rows, u.Env.Origin, u.Env.Known = b.rows, x.name, b.known
		if o := applied(t, centre.s, u); len(o.Quarantined) > 0 {
			t.Fatalf("%+v", o.Quarantined)
		}
	}
	x.acked = b.state
}

func (x *site) write(t testing.TB, rnd *rand.Rand) {
	key := fmt.Sprintf("a = %d AND b = '%s'", rnd.IntN(4), []string{"x", "y"}[rnd.IntN(2)])
	var q string
	switch rnd.IntN(4) {
	case 0:
		q = "DELETE FROM goods WHERE " + key
	case 1:
		q = fmt.Sprintf("UPDATE goods SET n = %d WHERE %s", rnd.IntN(1000), key)
	default:
		q = fmt.Sprintf("REPLACE INTO goods SET %s, n = %d", strings.ReplaceAll(key, " AND", ","), rnd.IntN(1000))
	}
	exec(t, x.app, q)
}

// quiet lets everything travel until nothing is left to do.
func quiet(t testing.TB, centre *site, points []*site) {
	t.Helper()
	for round, moved := 0, 1; moved > 0; round++ {
		if moved = 0; round > 20 {
			t.Fatal("rows travel for ever")
		}
		for _, p := range points {
			b := p.send(t)
			p.deliver(t, centre, b)
			moved += b.rows.Len() + p.download(t, centre)
		}
	}
}

// Three points and the centre edit one table at once. When nothing more happens all four are equal, whatever was sent,
// acknowledged and fetched in which order, under each option, and every version that lost can be read.
func TestConflictsEndEqual(t *testing.T) {
	for _, option := range []rule.Conflict{rule.CentreWins, rule.PointWins, rule.NewestWins} {
		t.Run(string(option), func(t *testing.T) {
			t.Parallel()
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			rnd := rand.New(rand.NewPCG(seed, 0))
			centre := newSite(t, rule.AnyPoint, option)
			start := []rowset.StateItem{{Name: rowset.ChangeSeq, Value: int64(0)}}
			points := make([]*site, 3)
			for i := range points {
				points[i] = newSite(t, fmt.Sprintf("point-%d", i+1), option)
				points[i].acked, points[i].fetched = start, start
			}
			flying := make([]*sent, len(points))
			for range 600 {
				i := rnd.IntN(len(points))
				switch p := points[i]; rnd.IntN(6) {
				case 0:
					centre.write(t, rnd)
				case 1, 2:
					p.write(t, rnd)
				case 3:
					if flying[i] == nil {
						flying[i] = p.send(t)
					}
				case 4:
					if flying[i] != nil {
						p.deliver(t, centre, flying[i])
						flying[i] = nil
					}
				default:
					if flying[i] == nil {
						p.download(t, centre)
					}
				}
			}
			for i, p := range points {
				if flying[i] != nil {
					p.deliver(t, centre, flying[i])
				}
			}
			quiet(t, centre, points)
			const all = "SELECT COALESCE(GROUP_CONCAT(CONCAT_WS(' ', a, b, n) ORDER BY a, b SEPARATOR '\\n'), '') " +
				"FROM goods"
			want := one(t, centre.s, all)
			lost := one(t, centre.s, "SELECT COUNT(*) FROM sync_conflict")
			for _, p := range points {
				if diff := cmp.Diff(want, one(t, p.s, all)); diff != "" {
					t.Errorf("the centre (-) and %s (+) are not equal:\n%s", p.name, diff)
				}
				lost += " " + one(t, p.s, "SELECT COUNT(*) FROM sync_conflict")
			}
			t.Logf("conflicts at the centre and the points: %s", lost)
			open, err := centre.s.Conflicts(testContext(t), true, 1)
			if err != nil || len(open) == 0 {
				t.Fatalf("no conflict was found at the centre: %v", err)
			}
			if err := centre.s.TakeConflict(testContext(t), open[0].ID, centre.up); err != nil {
				t.Fatal(err)
			}
			quiet(t, centre, points)
			taken, err := centre.s.Conflict(testContext(t), open[0].ID)
			if err != nil || taken.TakenAt.IsZero() {
				t.Errorf("%+v, %v", taken, err)
			}
			want = one(t, centre.s, all)
			for _, p := range points {
				equal(t, p.name+" after a version that lost was taken", one(t, p.s, all), want)
			}
		})
	}
}
