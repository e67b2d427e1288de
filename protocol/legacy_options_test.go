package protocol

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestLegacyNetworks(t *testing.T) {
	b := newLegacyBench(t, nil)
	if _, err := b.NewSession(netip.MustParseAddr("198.51.100.1")); !errors.Is(err, errLegacyNetwork) {
		t.Errorf("a stranger's address: %v", err)
	}
}

func TestLegacyNames(t *testing.T) {
	b := newLegacyBench(t, func(o *LegacyOptions) {
		o.Names = map[string]string{"userid": "uid", "Security_Token": "token", "DOLOAD_DB": "DOWNLOAD_DB",
			"RESPONSE": "ANSWER", "Server_config_Error": "CONFIG"}
	})
	s := b.session()
	text := legacyAsk("point-01", "DOWNLOAD_DB", "t", "None", b.now, "userid", "uid", "Security_Token", "token")
	m := b.receive(s, text)
	var got string
	err := s.Send(m.Reply(StatusRuleBroken, &ErrorReply{Message: "x"}), func(p []byte) error {
		plain, err := openLegacy(p, b.cbc)
		got = string(plain)
		return err
	})
	if err != nil || !strings.HasPrefix(got, "{'uid': 'point-01'") ||
		!strings.Contains(got, "'Error_Type': 'CONFIG'") ||
		!strings.Contains(got, "'Info_Type': 'ANSWER', 'token': '") {
		t.Errorf("%s, %v", got, err)
	}
	for _, names := range []map[string]string{{"nonsense": "x"}, {"Type": ""}, {"Type": "Content"},
		{"UPLOAD_DB": "DOLOAD_DB"}, {"Time": "\xff"}} {
		if _, err := newLegacyNames(names); err == nil {
			t.Errorf("%v passed", names)
		}
	}
	if _, err := newLegacyNames(map[string]string{"Server_DB_Error": "Error",
		"Server_config_Error": "Error"}); err != nil {
		t.Errorf("one word for two errors: %v", err)
	}
}

func TestLegacyWords(t *testing.T) {
	n, err := newLegacyNames(nil)
	if err != nil {
		t.Fatal(err)
	}
	for s, want := range map[Status]string{
		StatusMalformed: "Receive_Data_Error", StatusBadMD5: "Receive_Data_Error",
		StatusRejected: "Info_Certification_Error", StatusLegacyRefused: "Info_Certification_Error",
		StatusNoRule: "Server_config_Error", 104: "Server_config_Error", StatusRuleBroken: "Server_config_Error",
		StatusRequestMismatch: "Client_Data_Pack_Error", StatusRequestIDReused: "Client_Data_Pack_Error",
		StatusTooLarge: "Client_Data_Pack_Error", StatusBusy: "Server_DB_Error",
		StatusDBUnavailable: "Server_DB_Error", StatusInternal: "Server_DB_Error",
	} {
		if got := n[s.Info().word]; got != want {
			t.Errorf("%v is %s, want %s", s, got, want)
		}
	}
}

func TestNewLegacyRefuses(t *testing.T) {
	for name, change := range map[string]func(*LegacyOptions){
		"no token key": func(o *LegacyOptions) { o.TokenKey = "" },
		"no networks":  func(o *LegacyOptions) { o.Networks = nil },
		"no allow":     func(o *LegacyOptions) { o.Allow = nil },
		"short key":    func(o *LegacyOptions) { o.Key = o.Key[:15] },
		"short iv":     func(o *LegacyOptions) { o.IV = o.Key[:15] },
		"long window":  func(o *LegacyOptions) { o.Window = 2 * time.Hour },
	} {
		o := LegacyOptions{Key: []byte(testLegacyKey), TokenKey: "x", Networks: make([]netip.Prefix, 1),
			Allow: func(string) bool { return true }, Clock: time.Now}
		if _, err := NewLegacy(o); err != nil {
			t.Fatal(err)
		}
		change(&o)
		if _, err := NewLegacy(o); err == nil {
			t.Errorf("%s: passed", name)
		}
	}
}
