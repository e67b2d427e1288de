package demo

import (
	"bufio"
	"compress/gzip"
	"context"
	"database/sql"
	_ "embed" // awkward.sql
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/go-sql-driver/mysql"
)

//go:embed awkward.sql
var awkwardSQL string

// awkwardTexts are texts that break quoting, formatting, encodings or terminals.
var awkwardTexts = []string{
	"", " ", "NULL", "null", "None", "'", `"`, "`", "''", `\`, `\\`, `\'`, `\0`, "%", "%s", "'%s'", "%%", "%d%n", "\t",
	"a\nb", "a\r\nb", "\x00", "\x1a", "a\x00b", "; drop table sync_control; --", "' or '1'='1", "/*", "-- x", "#",
	":name", "?", "@var", "{'a': ('b',)}",
	"😀", "👩‍👩‍👧‍👦", "é", "é", "中文", "שלום", "\u202e", "ﷺ", "ß", "İ", "\ufeff",
	"1e309", "0x1F", "00", "-0", "NaN", "<script>alert(1)</script>", "$(reboot)", "trailing ", "\u2028",
}

// loadAwkward makes a table of awkward values. It uses the texts of a file beside its own.
func loadAwkward(ctx context.Context, db *sql.Conn, table string, rows int, file string) error {
	texts, err := readTexts(file)
	if err != nil {
		return err
	}
	texts = append(texts, awkwardTexts...)
	_, err = db.ExecContext(ctx, "CREATE TEMPORARY TABLE texts (n INT UNSIGNED PRIMARY KEY, text TEXT NOT NULL) "+
		"CHARACTER SET utf8mb4 COLLATE utf8mb4_bin")
	for i, text := range texts {
		if err == nil {
			_, err = db.ExecContext(ctx, "INSERT INTO texts VALUES (?, ?)", i+1, text)
		}
	}
	if err == nil {
		_, err = db.ExecContext(ctx, fmt.Sprintf(awkwardSQL, table, rows, len(texts)))
	}
	return err
}

// readTexts reads one base64 text a line. It passes over empty lines and those that begin with #; a line that is not
// base64 is a text as it stands. A missing file has no texts.
func readTexts(path string) (texts []string, err error) {
	all, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	for line := range strings.Lines(string(all)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if text, err := base64.StdEncoding.DecodeString(line); err == nil {
			line = string(text)
		}
		texts = append(texts, strings.ToValidUTF8(line, "\ufffd"))
	}
	return texts, err
}

// packageColumns names the nine fields of a Debian package index. The fields of another file are c1, c2, ….
var packageColumns = []string{"package", "version", "section", "priority", "maintainer",
	"installed_kib", "size_bytes", "description", "homepage"}

// loadTSV makes a table of a tab-separated file without a heading, in which \t, \n and \\ stand for a tab, a newline
// and a backslash. A name that ends in .gz is decompressed. The line number is the key, an empty field is NULL, and a
// column that has only numbers becomes a number. rows is how many lines count; 0: all.
func loadTSV(ctx context.Context, db *sql.Conn, table string, rows int, path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("--input: %w", err)
	}
	defer file.Close()
	var r io.Reader = file
	if strings.HasSuffix(path, ".gz") {
		if r, err = gzip.NewReader(file); err != nil {
			return fmt.Errorf("%s is not gzip: %w", path, err)
		}
	}
	in := bufio.NewReaderSize(r, 1<<20)
	head, _ := in.Peek(in.Size()) // the end of a shorter file is no error; LOAD DATA meets the others
	first, _, _ := strings.Cut(string(head), "\n")
	names := packageColumns
	if n := 1 + strings.Count(first, "\t"); n != len(names) {
		names = make([]string, n)
		for i := range names {
			names[i] = "c" + strconv.Itoa(i+1)
		}
	}
	each := func(format string) string {
		text := make([]string, len(names))
		for i, name := range names {
			text[i] = strings.ReplaceAll(format, "NAME", name)
		}
		return strings.Join(text, ", ")
	}
	mysql.RegisterReaderHandler("input", func() io.Reader { return in })
	defer mysql.DeregisterReaderHandler("input")
	for _, statement := range []string{
		"CREATE TABLE " + table + " (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, " +
			each("NAME LONGTEXT") + ") CHARSET=utf8mb4",
		"LOAD DATA LOCAL INFILE 'Reader::input' INTO TABLE " + table + " CHARACTER SET utf8mb4 (" +
			each("NAME") + ") SET " + each("NAME = NULLIF(NAME, '')"),
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	var warnings int
	if err := db.QueryRowContext(ctx, "SELECT @@warning_count").Scan(&warnings); err != nil || warnings > 0 {
		return errors.Join(fmt.Errorf("%s: a line has more or fewer fields than the first", path), err)
	}
	if rows > 0 {
		if _, err := db.ExecContext(ctx, "DELETE FROM "+table+" WHERE id > ?", rows); err != nil {
			return err
		}
	}
	var numbers string // what gives the columns that hold only numbers a numeric type
	err = db.QueryRowContext(ctx, "SELECT CONCAT_WS(', ', "+each("IF(MIN(NAME RLIKE '^(0|[1-9][0-9]{0,18})$'), "+
		"'MODIFY NAME BIGINT UNSIGNED', NULL)")+") FROM "+table).Scan(&numbers)
	if err == nil && numbers != "" {
		_, err = db.ExecContext(ctx, "ALTER TABLE "+table+" "+numbers)
	}
	return err
}
