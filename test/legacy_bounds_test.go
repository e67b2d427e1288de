package test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"syncgate/internal/pyliteral"
)

// TestLegacyBounds: what worked with the original works, such as 5.5 MB up, 24 MB down and 100
// requests of one point at once. Over a bound an agent gets an answer that names the setting, and no reset.
func TestLegacyBounds(t *testing.T) {
	t.Parallel()
	w := New(t)
	w.Centre.Must("CREATE TABLE big (id INT PRIMARY KEY, s TEXT) CHARSET utf8mb4")
	for _, row := range []string{
		`'big', 'upload', 'server', '("id","s")', '{''downside'': ("replace into big values (%s,''%s'')",)}'`,
		`'big', 'download', 'server', NULL, '{''upside'': ("select id,s from big",)}'`,
		`'twice', 'download', 'server', NULL, '{''upside'': ("select id,s from big union all select -id,s ` +
			`from big",)}'`,
	} {
		w.Centre.Must("INSERT INTO sync_control (sync_point_no, sync_table, sync_type, sync_user, sync_field, " +
			"sync_sql) VALUES ('*', " + row + ")")
	}
	w.Enrol()
	const conns = 110
	w.Env = append(w.Env, append(legacySettings(), fmt.Sprintf("SYNCGATE_MAX_CONNECTIONS_PER_POINT=%d", conns),
		"SYNCGATE_LEGACY_MAX_REPLY=25MiB")...)
	address, _ := w.Serve().WaitLog("listening")["legacy"].(string)
	upload := func(c *legacyClient, first, rows int) legacyReply {
		text, list := pyliteral.Str(strings.Repeat("x", 1000)), pyliteral.List{}
		for i := range rows {
			list = append(list, pyliteral.Tuple{int64(first + i), text})
		}
		return c.ask(c.packet(pointName, "UPLOAD_DB", "big", list))
	}
	refused := func(r legacyReply, setting string) {
		t.Helper()
		if info := fmt.Sprint(r.info); !r.failed || !strings.Contains(info, setting) {
			t.Errorf("answered with %s, want %s", info, setting)
		}
	}
	first := dialLegacy(t, address, pyliteral.Python2)
	if r := upload(first, 1, 5500); r.failed {
		t.Fatalf("5.5 MB up: %v", r.info)
	}
	w.Centre.Must("INSERT INTO big SELECT seq, REPEAT('y', 1000) FROM seq_5501_to_24000")
	r := first.ask(first.packet(pointName, "DOLOAD_DB", "big", nil))
	if r.failed || len(r.text) < 24_000_000 {
		t.Fatalf("24 MB down: %d bytes, %v", len(r.text), r.info)
	}
	refused(first.ask(first.packet(pointName, "DOLOAD_DB", "twice", nil)), "legacy.max_reply")
	refused(upload(first, 1, 9000), "legacy.max_packet")
	first.closed()
	first.conn.Close()
	refused(upload(dialLegacy(t, address, pyliteral.Python2), 1, 9000), "legacy.max_packet")

	var all sync.WaitGroup
	clients, replies := make([]*legacyClient, conns), make([]legacyReply, conns)
	for i := range clients {
		clients[i] = dialLegacy(t, address, pyliteral.Python2)
		all.Go(func() { replies[i] = upload(clients[i], 30_000+i, 1) })
	}
	all.Wait()
	for i, r := range replies {
		if r.failed {
			t.Errorf("request %d of %d at once: %v", i, conns, r.info)
		}
	}
	if n := w.Centre.Count("SELECT COUNT(*) FROM big WHERE id >= 30000"); n != conns {
		t.Errorf("%d rows of %d", n, conns)
	}
	late := dialLegacy(t, address, pyliteral.Python2)
	refused(upload(late, 1, 1), "max_connections_per_point")
	late.closed()
}
