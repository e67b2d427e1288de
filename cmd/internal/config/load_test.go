package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func none(string) (string, bool) { return "", false }

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "syncgate.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadOrder(t *testing.T) {
	path := write(t, "listen = \"127.0.0.1:1\"\nqueue = 7\nkeepalive = \"5s\"\nmax_frame = \"2MiB\"\n\n[legacy]\nwindow = \"10m\"\nnetworks = [\"10.0.0.0/8\"]\n")
	env := map[string]string{
		"SYNCGATE_QUEUE":            "9",
		"SYNCGATE_LEGACY_TOKEN_KEY": "secret",
		"SYNCGATE_LEGACY_NETWORKS":  "10.1.0.0/16, 10.2.0.0/16",
	}
	c := DefaultServer()
	if err := Load(c, path, "SYNCGATE_", func(k string) (string, bool) { v, ok := env[k]; return v, ok }); err != nil {
		t.Fatal(err)
	}
	if c.Listen != "127.0.0.1:1" || c.Queue != 9 || c.Keepalive.Std() != 5*time.Second || c.MaxFrame != 2<<20 ||
		c.Legacy.TokenKey != "secret" || c.Legacy.Window.Std() != 10*time.Minute || len(c.Legacy.Networks) != 2 {
		t.Fatalf("%+v", c)
	}
	if c.DataDir != DefaultServer().DataDir {
		t.Fatalf("a setting nobody gave has lost its default: %q", c.DataDir)
	}
}

func TestLoadErrorsNameThePlace(t *testing.T) {
	for _, tt := range []struct{ name, text, env, value, place, problem string }{
		{name: "unknown", text: "listen = \"x\"\nlissten = 1\n", place: ":2:1", problem: `unknown setting "lissten"; did you mean "listen"?`},
		{name: "unknown in table", text: "[legacy]\nkey = \"x\"\ntokenkey = 1\n", place: ":3:1", problem: `"legacy.tokenkey"; did you mean "legacy.token_key"?`},
		{name: "kind", text: "queue = \"many\"\n", place: ":1:", problem: "queue"},
		{name: "syntax", text: "queue = \n", place: ":1:"},
		{name: "duration", text: "\nkeepalive = \"soon\"\n", place: ":2:", problem: "not a duration"},
		{name: "size", text: "max_frame = \"1 lorry\"\n", place: ":1:", problem: "not a size"},
		{name: "environment", env: "SYNCGATE_QUEUE", value: "x", place: "SYNCGATE_QUEUE", problem: "not a whole number"},
		{name: "environment duration", env: "SYNCGATE_DRAIN_TIMEOUT", value: "-1s", place: "SYNCGATE_DRAIN_TIMEOUT", problem: "not a duration"},
		{name: "map", env: "SYNCGATE_LEGACY_NAMES", value: "x", place: "SYNCGATE_LEGACY_NAMES", problem: "only in the file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := Load(DefaultServer(), write(t, tt.text), "SYNCGATE_", func(k string) (string, bool) { return tt.value, k == tt.env })
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want an *Error", err)
			}
			if !strings.Contains(e.Place, tt.place) || !strings.Contains(e.Problem, tt.problem) {
				t.Fatalf("got %q, want the place %q and the problem %q", e, tt.place, tt.problem)
			}
		})
	}
	var e *Error
	if err := Load(DefaultServer(), filepath.Join(t.TempDir(), "none.toml"), "SYNCGATE_", none); !errors.As(err, &e) || !strings.HasSuffix(e.Place, "none.toml") {
		t.Fatalf("a missing file gives %v", err)
	}
}

// What `syncgate config` prints must be a file that can be used as it is.
func TestExampleIsTheDefault(t *testing.T) {
	text, err := Example(DefaultServer())
	if err != nil {
		t.Fatal(err)
	}
	c := &Server{}
	if err := Load(c, write(t, string(text)), "SYNCGATE_", none); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	again, err := Example(c)
	if err != nil || string(again) != string(text) {
		t.Fatalf("%v: the example does not read back as it was printed:\n%s\n---\n%s", err, text, again)
	}
}

func TestEveryNameIsDistinctAndDocumented(t *testing.T) {
	for _, cfg := range []any{DefaultServer(), DefaultAgent()} {
		seen := map[string]bool{}
		for _, name := range Names(cfg) {
			if name == "" || strings.HasSuffix(name, ".") || seen[name] {
				t.Errorf("%T: setting %q is unnamed or named twice", cfg, name)
			}
			seen[name] = true
		}
		text, err := Example(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if settings, comments := strings.Count(string(text), " = "), strings.Count(string(text), "# "); comments < settings-1 {
			t.Errorf("%T: %d settings with %d comments", cfg, settings, comments)
		}
	}
}

func TestDurationAndSizeReadWhatTheyPrint(t *testing.T) {
	for _, text := range []string{"0s", "500ms", "1m30s", "5m", "1h", "1h30m"} {
		var d Duration
		if err := d.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, _ := d.MarshalText(); string(got) != text {
			t.Errorf("duration %s prints as %s", text, got)
		}
	}
	for _, text := range []string{"0", "1000", "4KiB", "3MiB", "2GiB"} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, _ := s.MarshalText(); string(got) != text {
			t.Errorf("size %s prints as %s", text, got)
		}
	}
	for _, text := range []string{"-1", "x", "9999999999GiB", "1.5MiB"} {
		if new(Size).UnmarshalText([]byte(text)) == nil {
			t.Errorf("size %q was read", text)
		}
	}
}

func FuzzLoad(f *testing.F) {
	text, _ := Example(DefaultServer())
	f.Add(string(text))
	f.Add("listen = 1")
	f.Add("[legacy]\nnames = {a = \"b\"}")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "f.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Load(DefaultServer(), path, "SYNCGATE_", none); err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%T %v has no place", err, err)
			}
		}
	})
}

func TestCheck(t *testing.T) {
	if err := DefaultServer().Check(); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*Server){
		"queue":         func(c *Server) { c.Queue = 0 },
		"max_in_flight": func(c *Server) { c.MaxInFlight = 1 << 16 },
		"keepalive":     func(c *Server) { c.Keepalive = 1 },
		"listen":        func(c *Server) { c.Listen = "" },
		"admin_listen":  func(c *Server) { c.AdminListen = "8080" },
	} {
		c := DefaultServer()
		spoil(c)
		var e *Error
		if err := c.Check(); !errors.As(err, &e) || !strings.HasPrefix(e.Place, name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
