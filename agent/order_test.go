package agent

import (
	"slices"
	"sync"
	"testing"

	"syncgate/protocol"
	"syncgate/rule"
)

// The first load sends parents before children, also over several steps and where tables refer to each other in a
// circle.
func TestParentsGoFirst(t *testing.T) {
	c := newCentre(t)
	f := newField(t, c)
	tables := []string{"a_lines", "b_orders", "c_customers"} // in the order of their names they would go wrong
	f.exec("CREATE TABLE c_customers (id INT PRIMARY KEY, best INT NULL)")
	f.exec("CREATE TABLE b_orders (id INT PRIMARY KEY, c INT, FOREIGN KEY (c) REFERENCES c_customers (id))")
	f.exec("CREATE TABLE a_lines (id INT PRIMARY KEY, o INT, FOREIGN KEY (o) REFERENCES b_orders (id))")
	f.exec("CREATE TABLE d_circle (id INT PRIMARY KEY, e INT NULL)")
	f.exec("CREATE TABLE e_circle (id INT PRIMARY KEY, d INT, FOREIGN KEY (d) REFERENCES d_circle (id))")
	f.exec("ALTER TABLE d_circle ADD FOREIGN KEY (e) REFERENCES e_circle (id)")
	const n = 3000 // rows, several batches
	f.exec("INSERT INTO c_customers SELECT seq, NULL FROM seq_1_to_3000")
	f.exec("INSERT INTO b_orders SELECT seq, seq FROM seq_1_to_3000")
	f.exec("INSERT INTO a_lines SELECT seq, seq FROM seq_1_to_3000")
	f.exec("INSERT INTO d_circle SELECT seq, NULL FROM seq_1_to_10")
	f.exec("INSERT INTO e_circle SELECT seq, seq FROM seq_1_to_10")
	for _, table := range append(tables, "d_circle", "e_circle") {
		f.rule(rule.Upload, table, "")
	}
	var mu sync.Mutex
	var came []string
	c.on(func(_ *peer, m *protocol.Message) bool {
		if u, err := m.UploadRequest(); m.Op == protocol.OpUpload && err == nil {
			mu.Lock()
			came = append(came, u.Table)
			mu.Unlock()
		}
		return false
	})
	defer f.run(f.agent())()
	for _, table := range tables {
		c.got(table, n)
	}
	c.got("d_circle", 10)
	c.got("e_circle", 10)
	mu.Lock()
	defer mu.Unlock()
	chain := slices.DeleteFunc(came, func(table string) bool { return table[1:] == "_circle" })
	if !slices.IsSortedFunc(chain, func(a, b string) int { return int(b[0]) - int(a[0]) }) {
		t.Errorf("they came in the order %v", slices.Compact(chain))
	}
}
