package store

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Facts are what `syncgate doctor` reads first.
type Facts struct {
	Version, Database string
	User              string // the account that the server has chosen
	Variables         map[string]string
	Grants            []string
	Engines           map[string]string // of syncgate's own tables
	MaxPacket         int               // max_allowed_packet, bytes
	Zone              string            // the time zone that rules see, and its present offset
	Summer            bool              // it has another in half a year
	OtherZone         bool              // init_connect may give other clients another one
	Skew              time.Duration     // the database's clock before this host's, give or take half a round trip
}

// factVariables are the variables that Facts reads. It leaves out those that a server does not have.
const factVariables = `'innodb_flush_log_at_trx_commit', 'sync_binlog', 'log_bin', 'innodb_doublewrite',
	'innodb_flush_method', 'read_only', 'max_allowed_packet', 'sql_mode'`

// Facts asks the server about itself.
func (s *Store) Facts(ctx context.Context) (*Facts, error) {
	f := &Facts{Variables: map[string]string{}, Engines: map[string]string{}}
	var clock float64
	began := time.Now()
	err := s.db.QueryRowContext(ctx, "SELECT VERSION(), COALESCE(DATABASE(), ''), CURRENT_USER(), "+
		"UNIX_TIMESTAMP(NOW(6))").Scan(&f.Version, &f.Database, &f.User, &clock)
	if err != nil {
		return nil, public(err)
	}
	f.Skew = time.UnixMicro(int64(clock * 1e6)).Sub(began.Add(time.Since(began) / 2))
	pairs := func(into map[string]string, query string) {
		if err == nil {
			err = s.each(ctx, query, func(scan scanner) error {
				var name, value string
				err := scan(&name, &value)
				into[name] = value
				return err
			})
		}
	}
	pairs(f.Variables, "SHOW GLOBAL VARIABLES WHERE Variable_name IN ("+factVariables+")")
	pairs(f.Engines, `SELECT table_name, engine FROM information_schema.tables
		WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE' AND table_name LIKE 'sync\_%'`)
	if err == nil {
		err = s.each(ctx, "SHOW GRANTS", func(scan scanner) error {
			var line string
			err := scan(&line)
			line, _, _ = strings.Cut(line, " IDENTIFIED BY ") // MariaDB shows the hash of the password
			f.Grants = append(f.Grants, line)
			return err
		})
	}
	f.MaxPacket, _ = strconv.Atoi(f.Variables["max_allowed_packet"]) // always a number
	if err != nil {
		return f, public(err)
	}
	return f, s.zoneFacts(ctx, f)
}

// GrowingTables are syncgate's own tables that grow with the traffic or with what goes wrong.
var GrowingTables = map[string]bool{
	"sync_request": true, "sync_stream": true, "sync_quarantine": true, "sync_conflict": true, "sync_log": true,
}

// TableRows estimates the rows of the tables that grow.
func (s *Store) TableRows(ctx context.Context) (map[string]uint64, error) {
	rows := map[string]uint64{}
	err := s.each(ctx, `SELECT table_name, COALESCE(table_rows, 0) FROM information_schema.tables
		WHERE table_schema = DATABASE() AND table_name LIKE 'sync\_%'`, func(scan scanner) error {
		var table string
		var n uint64
		err := scan(&table, &n)
		if GrowingTables[table] {
			rows[table] = n
		}
		return err
	})
	return rows, public(err)
}

// Unsafe lists the settings under which an acknowledged row may be lost.
func (f *Facts) Unsafe() []string {
	var bad []string
	say := func(name, risk string) {
		bad = append(bad, fmt.Sprintf("%s is %s: %s", name, f.Variables[name], risk))
	}
	if v, ok := f.Variables["innodb_flush_log_at_trx_commit"]; ok && v != "1" {
		say("innodb_flush_log_at_trx_commit", "a power cut loses commits; 1 is durable")
	}
	if f.Variables["log_bin"] == "ON" && f.Variables["sync_binlog"] != "1" {
		say("sync_binlog", "a power cut loses commits from the binary log; 1 is durable")
	}
	if v := f.Variables["innodb_doublewrite"]; v == "OFF" || v == "0" {
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
	slices.Sort(bad)
	return bad
}

// OrphanedTriggers lists the triggers of syncgate whose account no longer exists: every statement that meets one fails.
// Without the right to read mysql.user it lists none.
func (s *Store) OrphanedTriggers(ctx context.Context) (all []string, err error) {
	err = s.each(ctx, `SELECT CONCAT(t.trigger_name, ' on ', t.event_object_table, ' (', t.definer, ')')
		FROM information_schema.triggers t
		LEFT JOIN mysql.user u ON BINARY CONCAT(u.user, '@', u.host) = BINARY t.definer
		WHERE t.trigger_schema = DATABASE() AND t.trigger_name LIKE 'sync\_%'
			AND u.user IS NULL`, func(scan scanner) error {
		var name string
		err := scan(&name)
		all = append(all, name)
		return err
	})
	if kindOf(err) == kindSQL { // it may not read mysql.user
		return nil, nil
	}
	return all, public(err)
}
