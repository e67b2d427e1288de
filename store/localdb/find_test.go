package localdb

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// fakeServer writes a program that answers --version and the files beside it.
func fakeServer(t *testing.T, root, name, script string, files ...string) {
	t.Helper()
	for _, f := range append(files, "usr/sbin/"+name) {
		path := filepath.Join(root, f)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		content := ""
		if filepath.Base(path) == name {
			content = "#!/bin/sh\n" + script + "\n"
		}
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

var systemSQL = []string{
	"usr/share/mysql/mysql_system_tables.sql",
	"usr/share/mysql/mysql_performance_tables.sql", "usr/share/mysql/mysql_system_tables_data.sql",
	"usr/share/mysql/maria_add_gis_sp_bootstrap.sql",
}

// A server under test is a fake, so that what is found does not depend on what is installed.
func TestFind(t *testing.T) {
	const maria = `echo "mariadbd Ver 10.11.6-MariaDB for Linux"`

	t.Run("nothing", func(t *testing.T) {
		_, err := find(t.Context(), []string{t.TempDir()}, filepath.Join(t.TempDir(), "none"))
		if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "make deps") {
			t.Fatalf("err = %v, want ErrNotFound with what to do", err)
		}
	})
	t.Run("installed", func(t *testing.T) {
		root := t.TempDir()
		fakeServer(t, root, "mariadbd", maria, systemSQL...)
		b, err := find(t.Context(), []string{t.TempDir(), filepath.Join(root, "usr/sbin")}, "")
		if err != nil {
			t.Fatal(err)
		}
		if b.base != filepath.Join(root, "usr") || len(b.env) != 0 ||
			b.bootstrapSQL[0] != filepath.Join(root, "usr/share/mysql/mysql_system_tables.sql") {
			t.Fatalf("%+v", b)
		}
	})
	t.Run("renamed SQL of MariaDB 11", func(t *testing.T) {
		root := t.TempDir()
		var files []string
		renamed := strings.NewReplacer("mysql/mysql_", "mariadb/mariadb_", "share/mysql/", "share/mariadb/")
		for _, f := range systemSQL {
			files = append(files, renamed.Replace(f))
		}
		fakeServer(t, root, "mariadbd", maria, files...)
		if _, err := find(t.Context(), []string{filepath.Join(root, "usr/sbin")}, ""); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("unpacked", func(t *testing.T) {
		root := t.TempDir()
		fakeServer(t, root, "mariadbd", maria, append(systemSQL, "usr/lib/x86_64-linux-gnu/libaio.so.1")...)
		b, err := find(t.Context(), nil, root)
		if err != nil {
			t.Fatal(err)
		}
		lib := filepath.Join(root, "usr/lib")
		want := "LD_LIBRARY_PATH=" + lib + "/x86_64-linux-gnu:" + lib
		if len(b.env) != 1 || b.env[0] != want {
			t.Fatalf("Env = %q, want %q", b.env, want)
		}
	})
	t.Run("broken first, good second", func(t *testing.T) {
		broken, good := t.TempDir(), t.TempDir()
		fakeServer(t, broken, "mariadbd", "echo libaio.so.1 is missing >&2; exit 127", systemSQL...)
		fakeServer(t, good, "mariadbd", maria, systemSQL...)
		b, err := find(t.Context(), []string{filepath.Join(broken, "usr/sbin"), filepath.Join(good, "usr/sbin")}, "")
		if err != nil {
			t.Fatal(err)
		}
		if b.base != filepath.Join(good, "usr") {
			t.Fatalf("%+v", b)
		}
	})
	t.Run("only broken", func(t *testing.T) {
		broken := t.TempDir()
		fakeServer(t, broken, "mariadbd", "echo libaio.so.1 is missing >&2; exit 127", systemSQL...)
		_, err := find(t.Context(), []string{filepath.Join(broken, "usr/sbin")}, "")
		if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "libaio.so.1 is missing") {
			t.Fatalf("err = %v, want it to repeat what the program said", err)
		}
	})
	t.Run("MariaDB without its SQL", func(t *testing.T) {
		root := t.TempDir()
		fakeServer(t, root, "mariadbd", maria, "usr/share/mysql/mysql_system_tables.sql")
		if _, err := find(t.Context(), []string{filepath.Join(root, "usr/sbin")}, ""); !errors.Is(err, ErrNotFound) {
			t.Fatalf("err = %v, want ErrNotFound", err)
		}
	})
}

func TestSocketFor(t *testing.T) {
	t.Setenv("TMPDIR", "/tmp")
	long := "/" + strings.Repeat("long/", 30)
	for _, tc := range []struct {
		dir   string
		inDir bool
	}{
		{"/var/lib/syncgate/db", true},
		{"/var/lib/with space/db", true},
		{"/" + strings.Repeat("d", maxSocketPath-len("//db.sock")), true},
		{"/" + strings.Repeat("d", maxSocketPath-len("//db.sock")+1), false},
		{long, false},
	} {
		path, err := socketFor(tc.dir)
		if err != nil {
			t.Fatal(err)
		}
		if in := strings.HasPrefix(path, tc.dir+"/"); in != tc.inDir || len(path) > maxSocketPath {
			t.Errorf("socketFor(%q) = %q (%d bytes), inside: %v, want %v", tc.dir, path, len(path), in, tc.inDir)
		}
		if again, _ := socketFor(tc.dir); again != path {
			t.Errorf("socketFor(%q) = %q, then %q", tc.dir, path, again)
		}
	}
	// A name the DSN's grammar can't carry must not be used as it stands.
	odd, err := socketFor("/var/lib/odd)name")
	if err != nil || !usableSocket(odd) {
		t.Fatalf("socketFor: %q, %v", odd, err)
	}
	t.Setenv("TMPDIR", long)
	if path, err := socketFor(long); err != nil || !strings.HasPrefix(path, "/tmp/") {
		t.Fatalf("with a long TMPDIR: %q, %v", path, err)
	}
}
