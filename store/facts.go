package store

import (
	"context"
	"database/sql"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Facts are what `syncgate doctor` reads first.
type Facts struct {
	Version   string            `json:"version"`
	MariaDB   bool              `json:"mariadb"`
	Database  string            `json:"database"`
	User      string            `json:"user"` // the account the server matched
	Variables map[string]string `json:"variables"`
	Grants    []string          `json:"grants"`
	Engines   map[string]string `json:"engines"`    // of syncgate's own tables
	Skew      time.Duration     `json:"clock_skew"` // how far the database's clock is ahead of ours, within the round trip
	MaxPacket int               `json:"max_allowed_packet"`
}

// watched are the variables Facts reads; those a server does not know are left out.
func watched() []string {
	return []string{"innodb_flush_log_at_trx_commit", "sync_binlog", "log_bin", "binlog_format", "innodb_doublewrite",
		"innodb_flush_method", "innodb_rollback_on_timeout", "read_only", "super_read_only", "max_allowed_packet",
		"max_connections", "max_prepared_stmt_count", "default_storage_engine", "character_set_server", "time_zone",
		"system_time_zone", "sql_mode", "tx_isolation", "transaction_isolation", "wait_timeout",
		"log_bin_trust_function_creators", "lower_case_table_names"}
}

// Facts asks the server about itself.
func (s *Store) Facts(ctx context.Context) (*Facts, error) {
	f := &Facts{Variables: map[string]string{}, Engines: map[string]string{}}
	steps := []func(context.Context, *Facts) error{s.identity, s.variables, s.grants, s.engines}
	for _, step := range steps {
		if err := step(ctx, f); err != nil {
			return nil, public(err)
		}
	}
	f.MaxPacket, _ = strconv.Atoi(f.Variables["max_allowed_packet"]) // always a number
	return f, nil
}

func (s *Store) identity(ctx context.Context, f *Facts) error {
	var database sql.NullString
	var clock float64
	began := time.Now()
	err := s.db.QueryRowContext(ctx, "SELECT VERSION(), DATABASE(), CURRENT_USER(), UNIX_TIMESTAMP(NOW(6))").
		Scan(&f.Version, &database, &f.User, &clock)
	if err != nil {
		return err
	}
	middle := began.Add(time.Since(began) / 2)
	f.Skew = time.UnixMicro(int64(clock * 1e6)).Sub(middle)
	f.Database = database.String
	f.MariaDB = strings.Contains(f.Version, "MariaDB")
	return nil
}

func (s *Store) variables(ctx context.Context, f *Facts) error {
	return s.each(ctx, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('"+strings.Join(watched(), "','")+"')",
		func(scan func(...any) error) error {
			var name, value string
			err := scan(&name, &value)
			f.Variables[name] = value
			return err
		})
}

func (s *Store) grants(ctx context.Context, f *Facts) error {
	return s.each(ctx, "SHOW GRANTS", func(scan func(...any) error) error {
		var line string
		err := scan(&line)
		if at := strings.Index(line, " IDENTIFIED BY "); at >= 0 {
			line = line[:at] // MariaDB shows the hash of the password
		}
		f.Grants = append(f.Grants, line)
		return err
	})
}

func (s *Store) engines(ctx context.Context, f *Facts) error {
	return s.each(ctx, `SELECT table_name, engine FROM information_schema.tables
		WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE' AND table_name LIKE 'sync\_%'`,
		func(scan func(...any) error) error {
			var name, engine string
			err := scan(&name, &engine)
			f.Engines[name] = engine
			return err
		})
}

// Unsafe lists the settings under which an acknowledged row may be lost.
func (f *Facts) Unsafe() []string {
	var bad []string
	say := func(name, breaks string) {
		bad = append(bad, fmt.Sprintf("%s is %s: %s", name, f.Variables[name], breaks))
	}
	off := func(name string) bool { v := f.Variables[name]; return v == "OFF" || v == "0" }
	if v, ok := f.Variables["innodb_flush_log_at_trx_commit"]; ok && v != "1" {
		say("innodb_flush_log_at_trx_commit", "a power cut loses commits; 1 is durable")
	}
	if f.Variables["log_bin"] == "ON" && f.Variables["sync_binlog"] != "1" {
		say("sync_binlog", "a power cut loses commits from the binary log; 1 is durable")
	}
	if off("innodb_doublewrite") {
		say("innodb_doublewrite", "a power cut may leave torn pages; ON is safe")
	}
	if v := strings.ToLower(f.Variables["innodb_flush_method"]); v == "nosync" || v == "littlesync" {
		say("innodb_flush_method", "nothing is synced to the disk")
	}
	for name, engine := range f.Engines {
		if engine != "InnoDB" {
			bad = append(bad, fmt.Sprintf("table %s is %s: only InnoDB rolls back", name, engine))
		}
	}
	sort.Strings(bad)
	return bad
}
