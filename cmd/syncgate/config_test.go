package main

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"syncgate/cmd/internal/config"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "syncgate.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// load reads the settings from the text of a file.
func load(t *testing.T, text string) *settings {
	t.Helper()
	s := &settings{}
	if _, err := config.Load(s, example(), new(options).limits(), config.Source{Path: write(t, text)}); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestLoadOrder(t *testing.T) {
	path := write(t, "listen = \"127.0.0.1:1\"\nqueue = 7\nkeepalive = \"5s\"\nmax_frame = "+
		"\"2MiB\"\n\n[legacy]\nwindow = \"10m\"\nnetworks = [\"10.0.0.0/8\"]\n")
	env := []string{"SYNCGATE_QUEUE=9", "SYNCGATE_LEGACY_TOKEN_KEY=secret", "SYNCGATE_AGENT_KEY=x", "SYNCGATE_CONFIG=x",
		"SYNCGATE_LEGACY_NETWORKS=10.1.0.0/16, 10.2.0.0/16", "SYNCGATE_QUEU=7", "HOME=/"}
	c := &settings{}
	origin, err := config.Load(c, example(), new(options).limits(), config.Source{Path: path, Prefix: "SYNCGATE_",
		Environ: env, Others: []string{"SYNCGATE_CONFIG", "SYNCGATE_AGENT_"}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"SYNCGATE_QUEU is no setting and has no effect; did you mean SYNCGATE_QUEUE?"}
	if got := origin.Unknown(); !slices.Equal(got, want) {
		t.Errorf("unknown variables %q, want %q", got, want)
	}
	for name, place := range map[string]string{"queue": "SYNCGATE_QUEUE", "keepalive": path + ":3:1",
		"legacy.window": path + ":7:1"} {
		if got := origin.Locate(&config.Error{Place: name, Problem: "x"}).Error(); got != place+": "+name+": x" {
			t.Errorf("%s is located as %s", name, got)
		}
	}
	if c.Listen != "127.0.0.1:1" || c.Queue != 9 || time.Duration(c.Keepalive) != 5*time.Second ||
		c.MaxFrame != 2<<20 || c.Legacy.TokenKey != "secret" || time.Duration(c.Legacy.Window) != 10*time.Minute ||
		len(c.Legacy.Networks) != 2 {
		t.Fatalf("%+v", c)
	}
	if c.DataDir != "./syncgate-data" {
		t.Fatalf("a setting nobody gave has lost its default: %q", c.DataDir)
	}
}

func TestLoadErrorsNameThePlace(t *testing.T) {
	for _, tt := range []struct{ name, text, env, value, place, problem string }{
		{name: "unknown", text: "listen = \"x\"\nlissten = 1\n", place: ":2:1",
			problem: `unknown setting "lissten"; did you mean "listen"?`},
		{name: "unknown in table", text: "[legacy]\nkey = \"x\"\ntokenkey = 1\n", place: ":3:1",
			problem: `"legacy.tokenkey"; did you mean "legacy.token_key"?`},
		{name: "kind", text: "queue = \"many\"\n", place: ":1:", problem: "queue"},
		{name: "syntax", text: "queue = \n", place: ":1:"},
		{name: "duration", text: "\nkeepalive = \"soon\"\n", place: ":2:", problem: "not a duration"},
		{name: "size", text: "max_frame = \"1 lorry\"\n", place: ":1:", problem: "not a size"},
		{name: "environment", env: "SYNCGATE_QUEUE", value: "x", place: "SYNCGATE_QUEUE",
			problem: "not a whole number"},
		{name: "environment duration", env: "SYNCGATE_DRAIN_TIMEOUT", value: "-1s", place: "SYNCGATE_DRAIN_TIMEOUT",
			problem: "not a duration"},
		{name: "bounds", text: "\nqueue = 0\n", place: ":2:1", problem: "queue: 0 is not between 1 and 1048576"},
		{name: "bounds in a table", text: "queue = 1\n[legacy]\n  window = \"1ms\"\n", place: ":3:3",
			problem: "legacy.window: 1ms is not"},
		{name: "unit", text: "queue = 1\ndrain_timeout = 20\n", place: ":2:1", problem: `20 has no unit; write "20s"`},
		{name: "unit in a table", text: "[legacy]\nwindow = 5.5\n", place: ":2:1", problem: `5.5 has no unit`},
		{name: "map", env: "SYNCGATE_LEGACY_NAMES", value: "x", place: "SYNCGATE_LEGACY_NAMES",
			problem: "only in the file"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := config.Load(&settings{}, example(), new(options).limits(), config.Source{Path: write(t, tt.text),
				Prefix: "SYNCGATE_", Environ: []string{tt.env + "=" + tt.value}})
			var e *config.Error
			if !errors.As(err, &e) {
				t.Fatalf("got %v, want an *Error", err)
			}
			if !strings.Contains(e.Place, tt.place) || !strings.Contains(e.Problem, tt.problem) {
				t.Fatalf("got %q, want the place %q and the problem %q", e, tt.place, tt.problem)
			}
		})
	}
	var e *config.Error
	missing := config.Source{Path: filepath.Join(t.TempDir(), "none.toml")}
	if _, err := config.Load(&settings{}, example(), nil, missing); !errors.As(err, &e) ||
		!strings.HasSuffix(e.Place, "none.toml") {
		t.Fatalf("a missing file gives %v", err)
	}
}

// A file with a secret that every account may read is refused; one without is not.
func TestSecretsAreKept(t *testing.T) {
	for text, want := range map[string]bool{
		"[legacy]\nkey = \"x\"\n": true, `dsn = "u:p@tcp(h)/d"`: true, `dsn = "u@unix(/s)/d"`: false,
		"queue = 7": false,
	} {
		path := write(t, text)
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
		f := flags{file: path}
		if _, err := f.load(); (err != nil) != want || want && !strings.Contains(err.Error(), "chmod o=") {
			t.Errorf("%q at 0644: %v", text, err)
		}
	}
}

// What `syncgate config` prints is a file with every setting and the default and bounds of every number, as the
// packages declare them.
func TestExample(t *testing.T) {
	for _, name := range config.Names(&settings{}) {
		if !strings.Contains(example(), "\n"+name[strings.Index(name, ".")+1:]+" = ") {
			t.Errorf("setting %s is not in the file", name)
		}
	}
	defaults := load(t, "")
	if again := load(t, example()); !reflect.DeepEqual(defaults, again) {
		t.Errorf("the file reads as %+v, not as the defaults %+v", again, defaults)
	}
	for _, line := range []string{
		"queue = 1024 # 1 to 1048576", `max_frame = "1MiB" # 4KiB to 16MiB`, `keepalive = "1m" # 1s to 10h`,
		"workers = 0 # 0 to 10000",
		`window = "5m" # 1s to 1h`,
	} {
		if !strings.Contains(example(), "\n"+line+"\n") {
			t.Errorf("no line %s in\n%s", line, example())
		}
	}
}

// Every number has a limit, its default is the limit's, values beyond the bounds are refused by name, and the setting
// sets the option whose limit it is.
func TestLimits(t *testing.T) {
	limits := new(options).limits()
	numbers := 0
	for _, name := range config.Names(&settings{}) {
		l, ok := limits[name]
		if kind := field(&settings{}, name).Kind(); ok != (kind == reflect.Int || kind == reflect.Int64) {
			t.Errorf("%s, of kind %v: has a limit: %v", name, kind, ok)
		}
		if !ok {
			continue
		}
		numbers++
		s := load(t, "")
		if got := field(s, name).Int(); got != l.Default {
			t.Errorf("%s is %d by default, not %d", name, got, l.Default)
		}
		for _, v := range []int64{l.Min - 1, l.Max + 1} {
			field(s, name).SetInt(v)
			var e *config.Error
			if err := limits.Check(s); !errors.As(err, &e) || e.Place != name ||
				!strings.Contains(e.Problem, l.Text(l.Max)) {
				t.Errorf("%s %d: %v", name, v, err)
			}
		}
	}
	if numbers != len(limits) {
		t.Errorf("%d numbers, %d limits", numbers, len(limits))
	}
	s := &settings{Queue: 7, MaxFrame: 8, Keepalive: 9, MaxConnections: 10, DownloadBatchRows: 11, Drain: 12,
		Legacy: legacySettings{Window: 13}}
	var o options
	o.limits().Apply(s)
	g := &o.gateway
	got := []int{g.Pool.Queue, g.Wire.MaxFrame, int(g.Wire.Keepalive), g.Reactor.MaxConns, g.Handler.MaxDownloadRows,
		int(g.Pool.Drain), int(o.legacy.Window)}
	if want := []int{7, 8, 9, 10, 11, 12, 13}; !slices.Equal(got, want) {
		t.Errorf("the options are %v, not %v", got, want)
	}
}

// field is a setting by its name.
func field(s *settings, name string) reflect.Value {
	v := reflect.ValueOf(s).Elem()
	for key := range strings.SplitSeq(name, ".") {
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("toml") == key {
				v = v.Field(i)
				break
			}
		}
	}
	return v
}

func FuzzLoad(f *testing.F) {
	f.Add(example())
	f.Add("listen = 1")
	f.Add("[legacy]\nnames = {a = \"b\"}")
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(t.TempDir(), "f.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := config.Load(&settings{}, example(), new(options).limits(), config.Source{Path: path}); err != nil {
			var e *config.Error
			if !errors.As(err, &e) {
				t.Fatalf("%T %v has no place", err, err)
			}
		}
	})
}

func TestCheckAddresses(t *testing.T) {
	for name, spoil := range map[string]func(*settings){
		"":              func(*settings) {},
		"listen":        func(s *settings) { s.Listen = "" },
		"listen_legacy": func(s *settings) { s.ListenLegacy = "here" },
		"admin_listen":  func(s *settings) { s.AdminListen = "8080" },
		"admin_listen ": func(s *settings) { s.AdminListen = "0.0.0.0:8080" }, // without a token
	} {
		s := load(t, "")
		spoil(s)
		var e *config.Error
		if err := s.checkAddresses(); name == "" && err != nil || name != "" &&
			(!errors.As(err, &e) || e.Place != strings.TrimSpace(name)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
