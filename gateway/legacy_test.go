package gateway

import (
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"syncgate/crypto"
	"syncgate/protocol"
)

// Two seed-era rows as they exist in the field.
const seedEraRows = `INSERT INTO sync_control (sync_table, sync_type, sync_user, sync_point_no, sync_field, ` +
	`sync_operation_type, sync_sql,
	sync_patch_field, sync_patch_field_value, sync_is_carry_state, sync_is_use_state_carry_data, sync_is_update_time) VALUES
	('phishing_log', 'upload', 'server', 'point-01', '("url","ip","title","hits","update_time")',
	'{''upside'': ''select'', ''downside'': ''insert|update'', ''update_state'': None}',
	'{''upside'': None, ''downside'': ("insert into phishing_log (url,ip,title,hits,update_time) values (''%s'',''%s'',''%s'',''%s'',''%s'')", "update phishing_log set ip=''%s'',title=''%s'',hits=''%s'',update_time=''%s'' where url=''%s''"), ''update_state'': None}',
	'{''upside'': None, ''downside'': (("url","ip","title","hits","update_time"), ("ip","title","hits","update_time","url")), ''update_state'': None}',
	'{''upside'': None, ''downside'': ((("transfer",None),("transfer",None),("transfer",None),("transfer",None),("transfer",None)), (("transfer",None),("transfer",None),("transfer",None),("transfer",None),("transfer",None))), ''update_state'': None}',
	0, 0, 1),
	('black_list', 'download', 'server', 'point-01', NULL, '{''upside'': ''select'', ''downside'': ''insert|update'', ''update_state'': None}',
	'{''upside'': ("select domain,update_time from black_list where update_time > ''%s''",), ''downside'': None, ''update_state'': None}',
	NULL, NULL, 1, 1, 0)`

const (
	legacyKey = "0123456789abcdef"
	tokenKey  = "token key"
)

// legacyClient is an agent on the v1 wire.
type legacyClient struct {
	t    *testing.T
	conn net.Conn
	cbc  *crypto.CBC
}

func (w *world) dialLegacy() *legacyClient {
	w.t.Helper()
	conn, err := net.Dial("tcp", w.LegacyAddr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(waitLimit)); err != nil {
		w.t.Fatal(err)
	}
	cbc, err := crypto.NewCBC([]byte(legacyKey), []byte(legacyKey))
	if err != nil {
		w.t.Fatal(err)
	}
	return &legacyClient{w.t, conn, cbc}
}

// ask sends a request whose Content is printed already, and gives the reply's text; the error is the connection's end.
func (c *legacyClient) ask(point, typ, table, content string) (string, error) {
	c.t.Helper()
	at := time.Now().Format("2006-01-02 15:04:05.000000")
	token := md5.Sum([]byte(content + at + tokenKey))
	text := fmt.Sprintf(`{'userid': '%s', 'Business': {'Type': '%s', 'Content': %s, 'Table_Name': '%s', `+
		`'Table_Field': None, 'Is_Syncdb': True}, `+
		`'Error': {'Error_Flag': False, 'Error_Type': None, 'Error_Info': None}, `+
		`'Info_Status': {'Info_Type': 'REQUEST', 'Security_Token': '%x', 'Time': '%s', 'Is_End': True}}`, point, typ,
		content, table, token, at)
	payload := hex.EncodeToString(c.cbc.Seal([]byte(text)))
	sum := fmt.Sprintf("%x", md5.Sum([]byte(payload)))
	if _, err := io.WriteString(c.conn, sum[:16]+payload+sum[16:]+"\n\r\n"); err != nil {
		return "", err
	}
	var packet []byte
	for b := make([]byte, 1); !strings.HasSuffix(string(packet), "\n\r\n"); {
		if _, err := io.ReadFull(c.conn, b); err != nil {
			return "", err
		}
		packet = append(packet, b...)
	}
	box, err := hex.DecodeString(string(packet[16 : len(packet)-19]))
	if err != nil {
		c.t.Fatal(err)
	}
	reply, err := c.cbc.Open(box)
	if err != nil {
		c.t.Fatal(err)
	}
	return string(reply), nil
}

func TestSeedEraAgent(t *testing.T) {
	w := newWorld(t)
	k := w.enrol(pointName)
	w.enrol("point-02")
	w.exec(`CREATE TABLE phishing_log (url VARCHAR(100) PRIMARY KEY, ip VARCHAR(40), title VARCHAR(100), hits INT, ` +
		`update_time DATETIME)`)
	w.exec(`CREATE TABLE black_list (domain VARCHAR(100) PRIMARY KEY, update_time DATETIME NOT NULL)`)
	w.exec(`INSERT INTO black_list VALUES ('old.example', '2001-01-01 00:00:00'), ('new''s.example', '2020-01-01 ` +
		`10:20:30')`)
	w.exec(seedEraRows)
	w.serve(func(o *Options) {
		o.Legacy = &LegacyOptions{Listen: "127.0.0.1:0", LegacyOptions: protocol.LegacyOptions{
			Key: []byte(legacyKey), TokenKey: tokenKey, Networks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}}
	})
	c := w.dialLegacy()
	ask := func(typ, table, content string, wants ...string) {
		t.Helper()
		text, err := c.ask(pointName, typ, table, content)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %s", text, want)
			}
		}
	}
	ok := "'Error_Flag': False"
	ask("UPLOAD_DB", "phishing_log", `[(u'http://a', u'1.2.3.4', u'it\'s', 3, u'2020-01-01 00:00:00'), (u'http://b', `+
		`None, u'%s', 1L, u'2020-01-01 00:00:00')]`,
		"'Content': None", ok)
	ask("UPLOAD_DB", "phishing_log", `[(u'http://a', u'5.6.7.8', u'again', 4, u'2020-01-02 00:00:00')]`, ok)
	if got := w.one(`SELECT GROUP_CONCAT(CONCAT_WS('|', url, ip, title, hits) ORDER BY url) FROM ` +
		`phishing_log`); got != "http://a|5.6.7.8|again|4,http://b|%s|1" {
		t.Errorf("the table holds %s", got)
	}
	ask("DOLOAD_DB", "black_list", `[((u'update_time', u'2010-01-01 00:00:00'),)]`,
		`'Content': [[(u"new's.example", datetime.datetime(2020, 1, 1, 10, 20, 30))]]`, ok)
	ask("UPLOAD_DB", "phishing_log", `[(u'http://c', 1)]`, "'Error_Flag': True", "Client_Data_Pack_Error",
		"SG0203: the request does not fit the rule: it has 2 values a row, the rule has 5 fields")
	ask("DOLOAD_DB", "phishing_log", `[]`, "'Error_Flag': True", "Server_config_Error", "SG0200")
	w.eventually("it is written down which wire the point spoke",
		func() bool { return w.one(`SELECT legacy_seen_at FROM sync_point WHERE point_no = ?`, pointName) != "" })

	// No way back from the v2 wire.
	w.connect(k).Ask(protocol.OpPing, id(1), nil)
	if text, err := c.ask(pointName, "DOLOAD_DB", "black_list", "[]"); err == nil {
		t.Errorf("its open connection goes on: %s", text)
	}
	text, err := w.dialLegacy().ask(pointName, "DOLOAD_DB", "black_list", "[]")
	if err != nil || !strings.Contains(text, "User_Certification_Error") &&
		!strings.Contains(text, "Info_Certification_Error") {
		t.Errorf("a new one is answered %q, %v", text, err)
	}
	other := w.dialLegacy()
	if text, err := other.ask("point-02", "DOLOAD_DB", "black_list", "[]"); err != nil ||
		!strings.Contains(text, "SG0200") {
		t.Errorf("another point is answered %q, %v", text, err)
	}
	if err := w.store.AllowLegacy(t.Context(), pointName, true); err != nil {
		t.Fatal(err)
	}
	w.eventually("its row allows both", func() bool { return w.points.legacyAllowed(pointName) })
	c = w.dialLegacy()
	ask("DOLOAD_DB", "black_list", `[((u'update_time', u'2010-01-01 00:00:00'),)]`, ok)

	// A wrong key, like everything else that is wrong with a stranger, is answered and closed.
	stranger := w.dialLegacy()
	bad := make([]byte, 16)
	_, _ = rand.Read(bad)
	wrong, err := crypto.NewCBC(bad, bad)
	if err != nil {
		t.Fatal(err)
	}
	right := stranger.cbc
	packet := hex.EncodeToString(wrong.Seal([]byte("{}")))
	sum := fmt.Sprintf("%x", md5.Sum([]byte(packet)))
	if _, err := io.WriteString(stranger.conn, sum[:16]+packet+sum[16:]+"\n\r\n"); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(stranger.conn)
	if err != nil || len(all) < 40 {
		t.Fatalf("%q %v", all, err)
	}
	box, err := hex.DecodeString(string(all[16 : len(all)-19]))
	if err != nil {
		t.Fatal(err)
	}
	if reply, err := right.Open(box); err != nil || !strings.Contains(string(reply), "'Error_Flag': True") {
		t.Errorf("%s %v", reply, err)
	}
}
