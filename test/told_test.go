package test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"syncgate/internal/harness/harnesstest"
)

// slowest bounds the median time from a commit at one point to the row at another one, on a machine that does much
// else. bench-live measures it.
const slowest = time.Second

// With the default settings a row that is committed at one point is at the centre and at another point at once: nobody
// waits for the next poll.
func TestRowsTravelAtOnce(t *testing.T) {
	t.Parallel()
	w := harnesstest.Make(t, harnesstest.Options{Points: 2})
	w.Enrol()
	for _, db := range w.Databases() {
		db.Must("CREATE TABLE goods (id INT PRIMARY KEY, n INT NOT NULL)")
	}
	w.Must("rules", "init", "goods", "--point", "*", "--type", "upload,download", "--both", "--changes", "--write")
	w.Serve()
	from, to := w.Points[0], w.Points[1]
	from.Run()
	to.Run()
	from.Must("INSERT INTO goods VALUES (0, 0)")
	to.Eventually(1, "SELECT COUNT(*) FROM goods")

	var centre, point []time.Duration
	for id := range 20 {
		time.Sleep(rand.N(300 * time.Millisecond)) // the moment of an insert has nothing to do with any timer
		from.Must("INSERT INTO goods VALUES (?, 1)", id+1)
		began := time.Now()
		for w.Centre.Count("SELECT COUNT(*) FROM goods WHERE id = ?", id+1) == 0 {
			time.Sleep(time.Millisecond)
		}
		centre = append(centre, time.Since(began))
		for to.Count("SELECT COUNT(*) FROM goods WHERE id = ?", id+1) == 0 {
			time.Sleep(time.Millisecond)
		}
		point = append(point, time.Since(began))
	}
	slices.Sort(centre)
	slices.Sort(point)
	t.Logf("at the centre: median %v, worst %v; at the other point: median %v, worst %v",
		centre[10], centre[19], point[10], point[19])
	if point[10] > slowest {
		t.Errorf("half of the rows took more than %v", point[10])
	}
	// What the centre itself changes, and deletes, is told too.
	w.Centre.Must("UPDATE goods SET n = 2 WHERE id = 1")
	from.Eventually(1, "SELECT COUNT(*) FROM goods WHERE n = 2")
	w.Centre.Must("DELETE FROM goods WHERE id = 2")
	to.Eventually(0, "SELECT COUNT(*) FROM goods WHERE id = 2")
}
