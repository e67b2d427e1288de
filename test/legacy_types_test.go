package test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"syncgate/internal/harness/pythontest"
	"syncgate/internal/pyliteral"
)

// kinds are the types of MySQL, and values of each as SQL. Binary types come last.
var kinds = [][]string{
	{"tinyint", "-128", "127"}, {"bool", "true"}, {"smallint unsigned", "65535"}, {"mediumint", "-8388608"},
	{"mediumint unsigned zerofill", "7"}, {"int", "-1", "2147483647"}, {"int unsigned", "4294967295"},
	{"int(5) zerofill", "42"}, {"bigint", "-9223372036854775808", "1"},
	{"bigint unsigned", "18446744073709551615", "1"},
	{"decimal(10,2)", "1.50", "-0.05", "0"}, {"decimal(30,10)", "0.0000001", "12345678901234567890.5"},
	{"decimal(5,0)", "100"},
	{"float", "0.1", "16777217", "1e-20", "123456.789", "100", "3.4e38"}, {"float(10,2)", "0.1", "123456.78"},
	{"double", "0.1", "1e16", "1e-5", "123456789.123", "100", "1e15"}, {"double(10,3)", "0.1", "-1234567.891"},
	{"date", "'2020-01-02'", "'0000-00-00'", "'2020-00-10'", "'9999-12-31'", "'0001-01-01'"},
	{"datetime", "'2020-01-02 00:00:00'", "'0000-00-00'", "'2020-10-00 01:02:03'", "'2020-01-02 03:04:05'"},
	{"datetime(6)", "'2020-01-02 03:04:05.000006'", "'2020-01-02 03:04:05'"},
	{"datetime(1)", "'2020-01-02 03:04:05.6'"},
	{"timestamp null", "'2020-01-02 03:04:05'", "'0000-00-00'"}, {"timestamp(3) null", "'2020-07-02 03:04:05.006'"},
	{"time", "'01:02:03'", "'23:59:59'", "'00:00:00'"}, {"time(3)", "'00:00:00.5'"}, {"year", "2020", "0"},
	{"char(5)", "'a'", "'中 '"}, {"varchar(100) character set latin1", "'é'"}, {"varchar(100)", "'中😀'", "''", "'100'"},
	{"tinytext", "'x'"}, {"text", "'line\nline'"}, {"longtext", "'x'"},
	{"enum('a','中')", "'中'"}, {"set('a','b')", "'a,b'", "''"}, {"json", `'{"a": 1}'`}, {"inet6", "'::1'"},
	{"bit(1)", "1"}, {"bit(9)", "257"}, {"binary(4)", "'a'"}, {"varbinary(9)", "x'00ff27'"}, {"blob", "x'c328'", "''"},
	{"geometry", "point(1, 2)"},
}

// TestTypesOverTheV1Wire compares what an agent gets for each type with what MySQLdb gives it, and what the rows that
// it sends back become with what the original's text makes of them.
func TestTypesOverTheV1Wire(t *testing.T) {
	t.Parallel()
	w := New(t)
	w.Env = append(append(w.Env, legacySettings()...), "SYNCGATE_TIME_ZONE=+08:00",
		"SYNCGATE_LEGACY_DIALECT=auto:python3.12")
	w.Enrol()
	w.Must("point", "add", "python-3")
	client, err := w.Centre.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	must := func(q string) {
		t.Helper()
		if _, err := client.ExecContext(t.Context(), q); err != nil {
			t.Fatalf("%s: %v", q, err)
		}
	}
	must("SET time_zone = '+08:00', sql_mode = ''")
	var columns, names, texts []string
	height := 0
	for i, kind := range kinds {
		names, columns = append(names, fmt.Sprintf("c%d", i)), append(columns, fmt.Sprintf("c%d %s", i, kind[0]))
		height = max(height, len(kind))
		if text := kind[0]; !strings.HasPrefix(text, "bit") && !strings.Contains(text, "binary") && text != "blob" &&
			text != "geometry" {
			texts = append(texts, names[i])
		}
	}
	must("CREATE TABLE kinds (id INT PRIMARY KEY, " + strings.Join(columns, ", ") + ")")
	must("CREATE TABLE model (id INT PRIMARY KEY AUTO_INCREMENT, " + strings.Join(columns[:len(texts)], ", ") + ")")
	must("CREATE TABLE sent LIKE model")
	for row := 1; row < height; row++ {
		values := []string{fmt.Sprint(row)}
		for _, kind := range kinds {
			if row < len(kind) {
				values = append(values, kind[row])
			} else {
				values = append(values, "NULL")
			}
		}
		must("INSERT INTO kinds VALUES (" + strings.Join(values, ", ") + ")")
	}
	all := strings.Join(names, ", ")
	w.Rule("server", "download", "kinds", "select "+all+" from kinds order by id")
	marks := "'%s'" + strings.Repeat(",'%s'", len(texts)-1)
	w.Rule("server", "upload", "sent", `{'upside': None, 'downside': ("insert into sent (`+strings.Join(texts, ",")+
		`) values (`+marks+`)",)}`,
		"sync_field", `("`+strings.Join(texts, `","`)+`")`, "sync_operation_type",
		"{'upside': None, 'downside': 'insert'}")
	w.Centre.Must("UPDATE sync_control SET sync_point_no = '*'")
	address, _ := w.Serve().WaitLog("listening")["legacy"].(string)

	asked, err := json.Marshal(textRows(t, client, "SELECT "+all+" FROM kinds ORDER BY id"))
	if err != nil {
		t.Fatal(err)
	}
	for _, agent := range []struct {
		version, point string
		dialect        pyliteral.Dialect
	}{{"2.7", w.Point.Name, pyliteral.Python2}, {"3.12", "python-3", pyliteral.Python312}} {
		t.Run("Python "+agent.version, func(t *testing.T) {
			said := pythontest.Run(t, agent.version, asked, "testdata/mysqldb.py")
			c := dialLegacy(t, address, agent.dialect)
			reply := c.ask(c.packet(agent.point, "DOLOAD_DB", "kinds", pyliteral.List{}))
			if reply.text != said[0] {
				t.Errorf("the wire gives\n%s\nMySQLdb\n%s", strings.ReplaceAll(reply.text, ", ", "\n"),
					strings.ReplaceAll(said[0], ", ", "\n"))
			}
			must("DELETE FROM sent")
			must("DELETE FROM model")
			lists, _ := reply.content.(pyliteral.List)
			rows, _ := lists[0].(pyliteral.List)
			var back pyliteral.List
			for i, row := range rows {
				values, _ := row.(pyliteral.Tuple)
				back = append(back, values[:len(texts)])
				var quoted []string
				if err := json.Unmarshal([]byte(said[i+1]), &quoted); err != nil {
					t.Fatal(err)
				}
				must("INSERT INTO model (" + strings.Join(texts, ", ") + ") VALUES (" +
					strings.Join(quoted[:len(texts)], ", ") + ")")
			}
			if r := c.ask(c.packet(agent.point, "UPLOAD_DB", "sent", back)); r.failed || r.info != nil {
				t.Fatalf("the upload is answered with %+v", r)
			}
			for _, name := range texts {
				q := "SELECT GROUP_CONCAT(COALESCE(HEX(" + name + "), 'NULL') ORDER BY id) FROM "
				if model, sent := w.Centre.Text(q+"model"), w.Centre.Text(q+"sent"); model != sent {
					t.Errorf("%s: the original makes %s, here it is %s", columns[slices.Index(names, name)],
						model, sent)
				}
			}
		})
	}
}

type typedRows struct {
	Types []string    `json:"types"`
	Rows  [][]*string `json:"rows"`
}

// textRows are rows as MySQL's text protocol gives them, in hex.
func textRows(t *testing.T, client *sql.Conn, q string) (all typedRows) {
	t.Helper()
	rows, err := client.QueryContext(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	types, err := rows.ColumnTypes()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range types {
		all.Types = append(all.Types, c.DatabaseTypeName())
	}
	for rows.Next() {
		raw, into := make([]sql.RawBytes, len(types)), make([]any, len(types))
		for i := range raw {
			into[i] = &raw[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		row := make([]*string, len(raw))
		for i, v := range raw {
			if v != nil {
				text := fmt.Sprintf("%x", []byte(v))
				row[i] = &text
			}
		}
		all.Rows = append(all.Rows, row)
	}
	return all
}
