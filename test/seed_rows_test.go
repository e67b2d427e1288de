package test

import (
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"

	"syncgate/internal/pyliteral"
)

// seedDownload is another seed-era row as it exists in the field, beside seedUpload.
const seedDownload = `INSERT INTO sync_control (sync_table, sync_type, sync_user, sync_point_no, ` +
	`sync_operation_type, sync_sql,
	sync_is_carry_state, sync_is_use_state_carry_data) VALUES ('black_list', 'download', 'server', 'point-01',
	'{''upside'': ''select'', ''downside'': ''insert|update'', ''update_state'': None}',
	'{''upside'': ("select domain,update_time from black_list where update_time > ''%s''",), ''downside'': None, ''update_state'': None}', 1, 1)`

// seedClient are seed-era rows for the other side. Today's agent runs them.
var seedClient = []string{
	`INSERT INTO sync_control (sync_table, sync_type, sync_user, sync_point_no, sync_field, sync_range, ` +
		`sync_range_value, sync_operation_type, sync_sql)
	VALUES ('phishing_log', 'upload', 'client', 'point-01', '("url","ip","title","hits","update_time")', 'period', 'day:3',
	'{''upside'': ''select'', ''downside'': None, ''update_state'': None}',
	'{''upside'': ("select url,ip,title,hits,update_time from phishing_log where update_time > ''%s'' and update_time <= ''%s''",), ''downside'': None, ''update_state'': None}')`,
	`INSERT INTO sync_control (sync_table, sync_type, sync_user, sync_point_no, sync_operation_type, sync_sql, ` +
		`sync_patch_field,
	sync_patch_field_value, sync_is_carry_state) VALUES ('black_list', 'download', 'client', 'point-01',
	'{''upside'': ''select'', ''downside'': ''insert|update'', ''update_state'': None}',
	'{''upside'': ("select max(update_time) as update_time from black_list",),
	''downside'': ("insert into black_list (domain,update_time) values (''%s'',''%s'')", "update black_list set update_time=''%s'' where domain=''%s''"), ''update_state'': None}',
	'{''downside'': (("domain","update_time"), ("update_time","domain"))}',
	'{''downside'': ((("transfer",None),("transfer",None)), (("transfer",None),("transfer",None)))}', 1)`,
}

const blackList = `CREATE TABLE black_list (domain VARCHAR(190) NOT NULL PRIMARY KEY, update_time DATETIME NOT NULL, ` +
	`KEY (update_time))`

// TestSeedRows runs the two rows unchanged on a real server: over the v1 wire, as an agent under Python 2 and one under
// Python 3, and over the v2 wire.
func TestSeedRows(t *testing.T) {
	t.Parallel()
	w := New(t)
	for _, query := range []string{phishingLog, blackList} {
		w.Centre.Must(query)
		w.Point.Must(query)
	}
	w.Centre.Must(seedUpload)
	w.Centre.Must(seedDownload)
	w.Centre.Must("INSERT INTO black_list VALUES ('a.example', '2026-01-02'), ('中文.example', '2026-01-02 03:04:05')")
	w.Point.Enrol(pointName)
	w.Env = append(w.Env, legacySettings()...)
	address, _ := w.Serve().WaitLog("listening")["legacy"].(string)
	before := w.Centre.Sum("SELECT * FROM sync_control")

	for dialect, want := range map[pyliteral.Dialect]string{
		pyliteral.Python2: `[[(u'a.example', datetime.datetime(2026, 1, 2, 0, 0)), (u'\u4e2d\u6587.example', ` +
			`datetime.datetime(2026, 1, 2, 3, 4, 5))]]`,
		pyliteral.Python312: `[[('a.example', datetime.datetime(2026, 1, 2, 0, 0)), ('中文.example', ` +
			`datetime.datetime(2026, 1, 2, 3, 4, 5))]]`,
	} {
		legacyUploads(t, w, dialLegacy(t, address, dialect))
		legacyDownloads(t, dialLegacy(t, address, dialect), want)
	}
	legacyPython(t, w, address)
	modernRound(t, w)

	// The server rejects a point on the v1 wire once it has spoken the v2 wire.
	c := dialLegacy(t, address, pyliteral.Python2)
	if r := c.ask(c.packet(pointName, "DOLOAD_DB", "black_list", nil)); !r.failed ||
		r.word != pyliteral.Str("Info_Certification_Error") {
		t.Errorf("after the v2 wire: %+v", r)
	}
	c.closed()
	if after := w.Centre.Sum("SELECT * FROM sync_control"); after != before {
		t.Errorf("the rules were changed: %s, before %s", after, before)
	}
}

func seedTime(year, month, day, hour int) pyliteral.Value {
	return pyliteral.DateTime{Year: year, Month: month, Day: day, Hour: hour}
}

// legacyUploads sends new rows, the same packet again, and one changed row beside one that no operation takes.
func legacyUploads(t *testing.T, w *World, c *legacyClient) {
	t.Helper()
	row := func(values ...pyliteral.Value) pyliteral.Value { return pyliteral.Tuple(values) }
	text := func(s string) pyliteral.Value { return pyliteral.Unicode(s) }
	send := func(packet []byte, info pyliteral.Value) {
		t.Helper()
		if r := c.ask(packet); r.failed || r.word != nil || r.content != nil || fmt.Sprint(r.info) != fmt.Sprint(info) {
			t.Errorf("an upload is answered with %+v", r)
		}
	}
	w.Centre.Must("DELETE FROM phishing_log")
	first := c.packet(pointName, "UPLOAD_DB", "phishing_log", pyliteral.List{
		row(text("http://a/?q='%s'"), text("10.0.0.1"), text(`中文 "it's"`), int64(3), seedTime(2020, 1, 2, 3)),
		row(text("http://b/"), nil, text(`\'; DROP TABLE phishing_log; -- `), int64(0), seedTime(2020, 1, 2, 3)),
	})
	send(first, nil)
	send(first, nil)
	send(c.packet(pointName, "UPLOAD_DB", "phishing_log", pyliteral.List{
		row(text("http://b/"), text("::1"), nil, int64(7), seedTime(2020, 1, 2, 3)),
		row(text("http://c/"), nil, nil, text("many"), seedTime(2020, 1, 2, 3)),
	}), "SG0304: 1 rows were put aside")
	const all = "SELECT COUNT(*) FROM phishing_log WHERE update_time > UTC_TIMESTAMP() - INTERVAL 1 HOUR AND "
	for query, want := range map[string]int{
		"SELECT COUNT(*) FROM phishing_log": 2,
		all + `url = 'http://a/?q=''%s''' AND ip = '10.0.0.1' AND title = '中文 "it''s"' AND hits = 3`: 1,
		all + `url = 'http://b/' AND ip = '::1' AND title IS NULL AND hits = 7`:                      1,
		"SELECT COUNT(*) FROM sync_quarantine WHERE point_no = 'point-01'":                           1,
	} {
		if got := w.Centre.Count(query); got != want {
			t.Errorf("%s gives %d, want %d", query, got, want)
		}
	}
	w.Centre.Must("DELETE FROM sync_quarantine")
}

// legacyDownloads asks for the black list, from the start and from its end.
func legacyDownloads(t *testing.T, c *legacyClient, want string) {
	t.Helper()
	for from, want := range map[string]string{"1970-01-01 00:00:00": want, "2026-01-02 03:04:05": "[[]]"} {
		state := pyliteral.List{pyliteral.Tuple{pyliteral.Tuple{pyliteral.Unicode("update_time"),
			pyliteral.Unicode(from)}}}
		if r := c.ask(c.packet(pointName, "DOLOAD_DB", "black_list", state)); r.failed || r.text != want {
			t.Errorf("a download from %s is answered with %+v, want %s", from, r, want)
		}
	}
}

// legacyPython runs a session of the Python client, which shares no code with the server, where there is a Python.
func legacyPython(t *testing.T, w *World, address string) {
	t.Helper()
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import cryptography").Run(); err != nil {
		t.Logf("without the client in Python: %v", err)
		return
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	for flag, list := range map[string]string{
		"--python2": `[[(u'a.example', datetime.datetime(2026, 1, 2, 0, 0)), (u'\u4e2d\u6587.example', ` +
			`datetime.datetime(2026, 1, 2, 3, 4, 5))]]`,
		"": `[[('a.example', datetime.datetime(2026, 1, 2, 0, 0)), ('中文.example', datetime.datetime(2026, ` +
			`1, 2, 3, 4, 5))]]`,
	} {
		w.Centre.Must("DELETE FROM phishing_log")
		args := strings.Fields("-B -W ignore pyclient/legacy.py " + flag)
		out, err := exec.CommandContext(t.Context(), python,
			append(args, host, port, legacyKeyHex, legacyKeyHex, legacyTokenKey, pointName)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		var got map[string]any
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatal(err)
		}
		want := map[string]any{
			"upload": []any{nil, nil}, "again": []any{nil, nil}, "download": []any{list, nil},
			"nothing": []any{"None", "Server_config_Error"},
			"ragged":  []any{nil, "Client_Data_Pack_Error"}, "refused": []any{nil, "Info_Certification_Error"},
			"closed": true,
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("the client in Python %s saw\n%v\nwant\n%v", flag, got, want)
		}
		if n := w.Centre.Count(`SELECT COUNT(*) FROM phishing_log WHERE hits IN (3, -1) AND title IN ('中文 ` +
			`"it''s"', '')`); n != 2 {
			t.Errorf("%d rows of the client in Python %s", n, flag)
		}
	}
}

// modernRound runs the agent twice with the seed-era client rows.
func modernRound(t *testing.T, w *World) {
	t.Helper()
	for _, query := range seedClient {
		w.Point.Must(query)
	}
	w.Point.Must(`INSERT INTO phishing_log VALUES ('http://new/', NULL, 'it''s %s', 5, ` +
		`UTC_TIMESTAMP(6) - INTERVAL 10 SECOND),
		('http://a/?q=''%s''', '10.9.9.9', '', 9, UTC_TIMESTAMP(6) - INTERVAL 1 HOUR),
		('http://old/', NULL, NULL, 1, UTC_TIMESTAMP(6) - INTERVAL 5 DAY)`)
	const list = "SELECT * FROM black_list"
	for round := range 2 {
		if round == 1 {
			w.Centre.Must("INSERT INTO black_list VALUES ('new.example', '2026-01-03')")
			w.Centre.Must("UPDATE black_list SET update_time = '2026-01-04' WHERE domain = 'a.example'")
			w.Point.Must("UPDATE phishing_log SET hits = hits + 1 WHERE url = 'http://new/'")
		}
		if out, errs, code := w.Point.Once(); code != 0 {
			t.Fatalf("exit %d\n%s%s", code, out, errs)
		}
		const log = "SELECT url, ip, title, hits FROM phishing_log WHERE url LIKE 'http://new/' OR url LIKE " +
			"'http://a/%'"
		if centre, point := w.Centre.Sum(log), w.Point.Sum(log); centre != point {
			t.Errorf("the centre has %s, the point has %s", centre, point)
		}
		if n := w.Centre.Count("SELECT COUNT(*) FROM phishing_log WHERE url = 'http://old/'"); n != 0 {
			t.Error("a row from before the period came")
		}
		if centre, point := w.Centre.Sum(list), w.Point.Sum(list); centre != point {
			t.Errorf("the centre's black list has %s, the point's %s", centre, point)
		}
	}
}
