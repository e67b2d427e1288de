package test

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"syncgate/internal/pyliteral"
	"syncgate/internal/rowset"
	"syncgate/protocol"

	"syncgate/internal/harness/harnesstest"
)

// naughty returns strings that are known to break programs, and the published list of such strings where it exists.
func naughty(t testing.TB) []string {
	t.Helper()
	all := []string{"", " ", "'", `"`, "`", `\`, `\\'`, "''", "%", "%s", "%%s", "'%s'", "%(url)s", "%n%n", "?", ":vc",
		":state.tx", "NULL", "None", "0", "-1", "1e400",
		"'; DROP TABLE phrase; -- ", `\'; DROP TABLE phrase; -- `, "x' OR '1'='1", "') ON DUPLICATE KEY UPDATE vc = ('",
		"/*!50000 DROP TABLE phrase */", "-- upside", "\x00", "a\x00b",
		"\x1a", "\r\n", "\n\r\n", "\t", "\u200b", "\ufeff", "\u202e", "ﷺ", "中文", "😀", "e\u0301", "\U0010ffff",
		"{'a': 1}", "u'x'", "datetime.datetime(2020, 1, 1)", "__import__('os')", "ÿ", "a ",
		strings.Repeat("'", 300)}
	path := SharedData(t, "naughty-strings.base64.txt")
	if path == "" {
		return all
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		if line == "" || line[0] == '#' {
			continue
		}
		text, err := base64.StdEncoding.DecodeString(line)
		if err != nil {
			text = []byte(line) // one line of the list is not encoded
		}
		all = append(all, string(text))
	}
	return all
}

// These names are awkward on purpose. They come from the rules and from whoever enrols a point, so they must work.
const (
	awkwardPoint  = `o'brien "%s" \ ; -- 中`
	awkwardTable  = "t`b'; drop table phrase; -- %s ? :x 中"
	awkwardLegacy = `legacy ' " %s \`
)

var awkwardColumns = []string{"id", "select", "a`b", "it's", `say "no"`, "%s", "?", ":x", "a.b", "a b", "中", `\`, "--"}

const phraseTable = "CREATE TABLE phrase (id INT PRIMARY KEY, vc VARCHAR(2000), tx TEXT, bl BLOB)"

// TestInjection puts naughty strings wherever a point can put one. Only data arrives, no row is lost, and the server
// refuses names that it does not know.
func TestInjection(t *testing.T) {
	t.Parallel()
	w := New(t)
	all := naughty(t)
	t.Logf("%d strings", len(all))
	awkward := awkwardTables(t, w, all)
	w.Centre.Must(phraseTable)
	w.Centre.Must(strings.Replace(phraseTable, "phrase", "seed_phrase", 1))
	for _, rule := range []string{
		`('server', 'phrase', 'upload', ?, '-- downside: insert\ninsert into phrase (id, vc, tx, bl) values (:id, ` +
			`:vc, :tx, :bl)', '', 0)`,
		`('server', 'phrase', 'download', ?, 'select id, vc, tx, bl from phrase where bl = :state.tx', '', 1)`,
		`('server', 'seed_phrase', 'upload', ?, '{"downside": "insert into seed_phrase (id, vc, tx, bl) values (%s, ` +
			`''%s'', ''%s'', \\"%s\\")"}', 'id, vc, tx, bl', 0)`,
		`('server', 'seed_phrase', 'download', ?, '{"upside": "select id, vc, tx, bl from seed_phrase where bl = ` +
			`''%s''"}', '', 1)`,
	} {
		point := awkwardPoint
		if strings.Contains(rule, "seed_phrase") {
			point = awkwardLegacy
		}
		w.Centre.Must("INSERT INTO sync_control (sync_user, sync_table, sync_type, sync_point_no, sync_sql, "+
			"sync_field, sync_is_use_state_carry_data) VALUES "+rule, point)
	}
	w.Point.Enrol(awkwardLegacy)
	w.Point.Enrol(awkwardPoint)
	w.Env = append(w.Env, append(legacySettings(), "SYNCGATE_HANDSHAKES_PER_SECOND=1000000")...)
	legacy, _ := w.Serve().WaitLog("listening")["legacy"].(string)

	if out, errs, code := w.Point.Once(); code != 0 {
		t.Fatalf("exit %d\n%s%s", code, out, errs)
	}
	awkward()
	c, err := w.Point.Dial()
	if err != nil {
		t.Fatal(err)
	}
	naughtyRows(t, w, c, all)
	naughtyStates(t, c, all)
	naughtyNames(t, w, all)
	naughtySeedEra(t, w, legacy, all)
	for table, want := range map[string]int{"phrase": 1, "sync_control": 1, "sync_point": 1, "sync_quarantine": 1} {
		if n := w.Centre.Count("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND "+
			"table_name = ?", table); n != want {
			t.Errorf("%d tables %s", n, table)
		}
	}
	if n := w.Centre.Count("SELECT COUNT(*) FROM sync_point"); n != 2 {
		t.Errorf("%d points", n)
	}
}

func quoted(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

// awkwardTables makes two tables with awkward names and fills them with the strings: one at the point for an upload,
// one at the centre for a download. The function that it returns checks that both crossed.
func awkwardTables(t *testing.T, w *World, all []string) (check func()) {
	t.Helper()
	down := awkwardTable + "!"
	var columns []string
	for i, name := range awkwardColumns {
		kind := " TEXT CHARACTER SET utf8mb4"
		if i == 0 {
			kind = " INT PRIMARY KEY"
		} else if i%3 == 0 {
			kind = " BLOB"
		}
		columns = append(columns, quoted(name)+kind)
	}
	for table, full := range map[string]*DB{awkwardTable: w.Point.DB, down: w.Centre} {
		kind := map[string]string{awkwardTable: "upload", down: "download"}[table]
		for user, db := range map[string]*DB{"server": w.Centre, "client": w.Point.DB} {
			db.Must("CREATE TABLE " + quoted(table) + " (" + strings.Join(columns, ", ") + ") CHARACTER SET utf8mb4")
			db.Must("INSERT INTO sync_control (sync_table, sync_type, sync_user, sync_point_no) VALUES (?, ?, ?, ?)",
				table, kind, user, awkwardPoint)
		}
		for i, text := range all {
			values := []any{i}
			for k := 1; k < len(awkwardColumns); k++ {
				values = append(values, valid(text))
				if k%3 == 0 {
					values[k] = []byte(text)
				}
			}
			full.Must("INSERT INTO "+quoted(table)+" VALUES (?"+strings.Repeat(", ?", len(awkwardColumns)-1)+
				")", values...)
		}
	}
	return func() {
		t.Helper()
		for _, table := range []string{awkwardTable, down} {
			centre, point := w.Centre.Sum("SELECT * FROM "+quoted(table)), w.Point.Sum("SELECT * FROM "+quoted(table))
			if centre != point || !strings.HasPrefix(point, fmt.Sprint(len(all), " rows")) {
				t.Errorf("of %d rows of %s the centre has %s, the point %s", len(all), table, centre, point)
			}
		}
	}
}

// valid makes a text that a text column accepts.
func valid(text string) string { return strings.ToValidUTF8(text, "?") }

// naughtyRows uploads each string as a value of each type, and as the name of a table and of a column.
func naughtyRows(t *testing.T, w *World, c *harnesstest.Client, all []string) {
	t.Helper()
	rows := rowset.Rows{Columns: []string{"id", "vc", "tx", "bl"}}
	for i, text := range all {
		rows.Values = append(rows.Values, int64(i), valid(text), valid(text), []byte(text))
	}
	status, reply := c.Upload("phrase", rows)
	if status != protocol.StatusOK || reply.Applied != uint64(len(all)) || len(reply.Quarantined) > 0 {
		t.Fatalf("%v %+v", status, reply)
	}
	phrases(t, w.Centre, "phrase", all)
	for _, text := range all {
		text = valid(text[:min(len(text), 200)]) // longer names cannot be sent
		status, _ := c.Upload(text, rowset.Rows{Columns: []string{"id"}, Values: []any{int64(1)}})
		if !slices.Contains([]protocol.Status{protocol.StatusNoRule, protocol.StatusMalformed}, status) {
			t.Errorf("an upload to the table %q is answered with %v", text, status)
		}
		if status := c.Download(c.Wire.RequestID(), &protocol.DownloadRequest{Table: text}).
			Status; !slices.Contains([]protocol.Status{protocol.StatusNoRule, protocol.StatusMalformed}, status) {
			t.Errorf("a download of the table %q is answered with %v", text, status)
		}
		status, _ = c.Upload("phrase",
			rowset.Rows{Columns: []string{"id", "vc", "tx", "bl" + text}, Values: []any{int64(9999), "", "", ""}})
		if text != "" &&
			!slices.Contains([]protocol.Status{protocol.StatusRequestMismatch, protocol.StatusMalformed}, status) {
			t.Errorf("an upload with the column %q is answered with %v", "bl"+text, status)
		}
	}
}

// phrases fails unless the table holds each string in all of its columns, byte for byte, and nothing else.
func phrases(t *testing.T, db *DB, table string, all []string) {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), "SELECT id, vc, tx, bl FROM "+table+" WHERE id < 5000 ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		var id int
		var vc, tx, bl []byte
		if err := rows.Scan(&id, &vc, &tx, &bl); err != nil {
			t.Fatal(err)
		}
		if want := []byte(valid(all[id])); !bytes.Equal(vc, want) || !bytes.Equal(tx, want) || string(bl) != all[id] &&
			!bytes.Equal(bl, want) {
			t.Errorf("%s has %q, %q and %q for %q", table, vc, tx, bl, all[id])
		}
	}
	if err := rows.Err(); err != nil || n != len(all) {
		t.Errorf("%s has %d of %d rows, %v", table, n, len(all), err)
	}
}

// naughtyStates asks for the rows that equal a carried state. Each string gives as many rows as it occurs.
func naughtyStates(t *testing.T, c *harnesstest.Client, all []string) {
	t.Helper()
	for i, text := range all {
		if !utf8.ValidString(text) {
			continue
		}
		status, values := phrasesFrom(c, rowset.StateItem{Name: "tx", Value: text})
		found := false
		for ; len(values) >= 4; values = values[4:] {
			if !reflect.DeepEqual(values[1:4], []any{text, text, []byte(text)}) {
				t.Errorf("the state %q finds %v", text, values[:4])
			}
			found = found || values[0] == int64(i)
		}
		if status != protocol.StatusOK || !found {
			t.Errorf("the state %q: %v, found %v", text, status, found)
		}
		// The rule has no state of this name.
		other := rowset.StateItem{Name: "tx" + valid(text[:min(len(text), 200)]) + "'", Value: "x"}
		if status, _ := phrasesFrom(c, other); status != protocol.StatusOK && status != protocol.StatusMalformed {
			t.Errorf("a state of the name %q is answered with %v", "tx"+text+"'", status)
		}
	}
}

// phrasesFrom returns the values of the rows of phrase from a state on.
func phrasesFrom(c *harnesstest.Client, state rowset.StateItem) (protocol.Status, []any) {
	d := c.Download(c.Wire.RequestID(), &protocol.DownloadRequest{Table: "phrase", State: []rowset.StateItem{state}})
	return d.Status, d.Rows.Values
}

// naughtyNames sends a HELLO under each string that can be a point's name.
func naughtyNames(t *testing.T, w *World, all []string) {
	t.Helper()
	key, address := w.Point.Key(), w.Point.Setting("SYNCGATE_AGENT_SERVER")
	names := slices.DeleteFunc(slices.Clone(all), func(s string) bool {
		return s == "" || len(s) > 64 || !utf8.ValidString(s)
	})
	for batch := range slices.Chunk(names, 150) { // a refusal is delayed, so the test asks for many at once
		var clients []*harnesstest.Client
		for _, name := range batch {
			key.Point = name
			clients = append(clients, harnesstest.Knock(t, address, key))
		}
		for i, c := range clients {
			var refused *protocol.RejectError
			if _, err := c.Next(); !errors.As(err, &refused) || refused.Status != protocol.StatusRejected {
				t.Errorf("the point %q is answered with %v", batch[i], err)
			}
			c.Conn.Close()
		}
	}
}

// naughtySeedEra does the same over the v1 wire, with rules that the original formatted into the text.
func naughtySeedEra(t *testing.T, w *World, address string, all []string) {
	t.Helper()
	c := dialLegacy(t, address, pyliteral.Python2)
	list := pyliteral.List{}
	for i, text := range all {
		text = valid(text)
		list = append(list, pyliteral.Tuple{int64(i), pyliteral.Unicode(text), pyliteral.Unicode(text),
			pyliteral.Unicode(text)})
	}
	if r := c.ask(c.packet(awkwardLegacy, "UPLOAD_DB", "seed_phrase", list)); r.failed || r.info != nil {
		t.Fatalf("%+v", r)
	}
	phrases(t, w.Centre, "seed_phrase", all)
	for i, text := range all {
		if i%8 > 0 && i > 60 {
			continue
		}
		text = valid(text)
		state := pyliteral.List{pyliteral.Tuple{pyliteral.Tuple{pyliteral.Unicode("tx"), pyliteral.Unicode(text)}}}
		r := c.ask(c.packet(awkwardLegacy, "DOLOAD_DB", "seed_phrase", state))
		row, err := pyliteral.Append(nil, pyliteral.Unicode(text), pyliteral.Python2)
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("(%dL, %s, %s, ", i, row, row); r.failed || !strings.Contains(r.text, want) {
			t.Errorf("the state %q finds %+v, not %s", text, r, want)
		}
		if r := c.ask(c.packet(awkwardLegacy, "DOLOAD_DB", "seed_phrase"+text+"'", nil)); !r.failed ||
			r.content != nil {
			t.Errorf("the table %q gives %+v", text, r)
		}
	}
	for batch := range slices.Chunk(all, 150) {
		var clients []*legacyClient
		for _, text := range batch {
			stranger := dialLegacy(t, address, pyliteral.Python2)
			stranger.send(stranger.packet(valid(text), "DOLOAD_DB", "seed_phrase", nil))
			clients = append(clients, stranger)
		}
		for i, stranger := range clients {
			if r := stranger.receive(); r.word != pyliteral.Str("Info_Certification_Error") {
				t.Errorf("the point %q is answered with %+v", batch[i], r)
			}
			stranger.closed()
			stranger.conn.Close()
		}
	}
}
