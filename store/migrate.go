package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"

	"syncgate/migrations"
)

// The schema in the database is not one that this program can work on.
var (
	ErrSchema = errors.New("store: the schema")
	// ErrOldSchema: Migrate would bring it forward.
	ErrOldSchema = fmt.Errorf("%w is older than this program", ErrSchema)
	// ErrOtherSet: the database is the agent's and this program the server, or the other way round.
	ErrOtherSet = fmt.Errorf("%w is another program's", ErrSchema)
)

// schemaLockWait is how long Migrate waits for another Migrate, seconds.
const schemaLockWait = 60

// Migrate brings the schema forward. It is safe to run at once from several processes: GET_LOCK lets one work and
// the others find everything done. report, when not nil, is called with the name of each migration that was run, and
// with "NAME (skipped: reason)" for each optional one that the deployment does not allow. ErrSchema: the database has
// had a migration that differs from this program's, that this program does not know, or that is of the other set; then
// nothing is changed.
func (s *Store) Migrate(ctx context.Context, report func(name string)) error {
	if report == nil {
		report = func(string) {}
	}
	if err := s.migrate(ctx, report); err != nil {
		return err
	}
	return s.inspect(ctx) // now with the engines of the tables
}

// migrate runs the migrations that are left. When none is left, it only reads sync_migration.
func (s *Store) migrate(ctx context.Context, report func(string)) (err error) {
	sc, err := s.db.Conn(ctx)
	if err != nil {
		return public(err)
	}
	defer sc.Close()
	unlock, err := lockSchema(ctx, sc)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	done, err := appliedAlready(ctx, sc)
	if err != nil {
		return public(err)
	}
	left, err := s.pending(done)
	if err != nil {
		return err
	}
	if done == nil {
		if err := firstMigration(ctx, sc); err != nil {
			return public(err)
		}
	}
	for _, m := range left {
		if err := s.apply(ctx, sc, m, report); err != nil {
			return err
		}
	}
	return nil
}

// CheckSchema reports ErrOldSchema when Migrate has something to do. It changes nothing. skipped are the optional
// migrations that the database has not had.
func (s *Store) CheckSchema(ctx context.Context) (skipped []string, err error) {
	done, err := appliedAlready(ctx, s.db)
	if err != nil {
		return nil, public(err)
	}
	left, err := s.pending(done)
	if err != nil {
		return nil, err
	}
	for _, m := range left {
		if !m.Optional {
			return nil, fmt.Errorf("%w: %s has not had %s", ErrOldSchema, s.place, m.Name)
		}
		skipped = append(skipped, m.Name)
	}
	return skipped, nil
}

// lockSchema takes the lock of this database's schema. Lock names are global to the server and 64 long at most.
func lockSchema(ctx context.Context, sc *sql.Conn) (unlock func() error, err error) {
	const name = "CONCAT('syncgate.', MD5(DATABASE()))"
	var got sql.NullInt64
	if err := sc.QueryRowContext(ctx, "SELECT GET_LOCK("+name+", ?)", schemaLockWait).Scan(&got); err != nil {
		return nil, public(err)
	}
	if got.Int64 != 1 {
		return nil, fmt.Errorf("%w is being migrated by another process for more than %d s", ErrSchema, schemaLockWait)
	}
	return func() error {
		var done sql.NullInt64
		return public(sc.QueryRowContext(context.WithoutCancel(ctx), "SELECT RELEASE_LOCK("+name+")").Scan(&done))
	}, nil
}

// pending returns the migrations that are left after those done, whose hashes it has by name.
func (s *Store) pending(done map[string]string) (left []migrations.Migration, err error) {
	names := slices.Sorted(maps.Keys(done))
	for _, name := range names {
		if owner := migrations.Owner(name); owner != "" && owner != s.o.Set {
			return nil, s.otherSet(name, owner, names)
		}
	}
	all, err := migrations.Load(s.o.Set, s.columns.lists())
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		hash, ok := done[m.Name]
		if ok && hash != m.Hash && !m.Listed {
			return nil, fmt.Errorf("%w: %s was run on %s in another wording", ErrSchema, m.Name, s.place)
		}
		if hash != m.Hash {
			left = append(left, m)
		}
		names = slices.DeleteFunc(names, func(name string) bool { return name == m.Name })
	}
	if len(names) > 0 {
		return nil, fmt.Errorf("%w: %s was run on %s and is not known to this version: "+
			"the database is newer than the program",
			ErrSchema, names[0], s.place)
	}
	return left, nil
}

// otherSet says that the database has had a migration of another set. Versions that did not look first have put the
// tables of both programs into one database.
func (s *Store) otherSet(name string, owner migrations.Set, done []string) error {
	remedy := fmt.Sprintf("the DSN of the %s must name another database", s.o.Set)
	if slices.ContainsFunc(done, func(name string) bool { return migrations.Owner(name) == s.o.Set }) {
		remedy = fmt.Sprintf("it also holds those of the %s: "+
			"delete one program's names from sync_migration and drop its tables", s.o.Set)
	}
	return fmt.Errorf("%w: %s holds the tables of syncgate's %s (it has had %s); %s",
		ErrOtherSet, s.place, owner, name, remedy)
}

// firstMigration makes the table that remembers the others.
func firstMigration(ctx context.Context, sc *sql.Conn) error {
	_, err := sc.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS sync_migration (
		name VARCHAR(64) NOT NULL COMMENT 'File name of the migration',
		hash CHAR(64) NOT NULL COMMENT 'SHA-256 of the file',
		applied_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) COMMENT 'When it was run',
		PRIMARY KEY (name)
	) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COMMENT = 'The migrations this database has had'`)
	return err
}

// appliedAlready returns the hash of each migration that was run; nil when sync_migration does not exist. A trigger
// that somebody has dropped since was not run.
func appliedAlready(ctx context.Context, db querier) (map[string]string, error) {
	done := map[string]string{}
	err := each(ctx, db, "SELECT name, hash FROM sync_migration", func(scan scanner) error {
		var name, hash string
		err := scan(&name, &hash)
		done[name] = hash
		return err
	}, nil)
	if isNumber(err, noSuchTable) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	there := map[string]bool{} // "": the account may see triggers
	err = each(ctx, db, `SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = DATABASE()
		UNION ALL SELECT '' FROM information_schema.user_privileges WHERE privilege_type = 'TRIGGER'
		UNION ALL SELECT '' FROM information_schema.schema_privileges
			WHERE privilege_type = 'TRIGGER' AND DATABASE() LIKE table_schema`, func(scan scanner) error {
		var name string
		err := scan(&name)
		there[name] = true
		return err
	}, nil)
	if len(there) > 0 {
		maps.DeleteFunc(done, func(migration, _ string) bool {
			_, name, _ := strings.Cut(migration, "_")
			return migrations.Optional(migration) && !there[name]
		})
	}
	return done, err
}

func (s *Store) apply(ctx context.Context, sc *sql.Conn, m migrations.Migration, report func(string)) error {
	err := s.runMigration(ctx, sc, m)
	var my *mysql.MySQLError
	if m.Optional && errors.As(err, &my) && kindOf(err) == kindSQL {
		report(fmt.Sprintf("%s (skipped: %s)", m.Name, my.Message))
		return nil // tried again by the next Migrate
	}
	if err == nil {
		_, err = sc.ExecContext(ctx, `INSERT INTO sync_migration (name, hash) VALUES (?, ?)
			ON DUPLICATE KEY UPDATE hash = VALUES(hash), applied_at = CURRENT_TIMESTAMP(6)`, m.Name, m.Hash)
	}
	if err != nil {
		return fmt.Errorf("store: migration %s: %w", m.Name, public(err))
	}
	report(m.Name)
	return nil
}

// runMigration runs one statement. What it makes may exist already.
func (s *Store) runMigration(ctx context.Context, sc *sql.Conn, m migrations.Migration) error {
	_, name, _ := strings.Cut(m.Name, "_")
	_, err := sc.ExecContext(ctx, m.SQL)
	// MySQL has no IF NOT EXISTS for columns, no IF EXISTS for constraints, no OR REPLACE for triggers.
	const columnExists, noConstraint, noConstraintMySQL, triggerExists = 1060, 1091, 3940, 1359
	if isNumber(err, columnExists, noConstraint, noConstraintMySQL) {
		err = nil // an ALTER is done as a whole or not at all
	} else if isNumber(err, triggerExists) {
		if _, err = sc.ExecContext(ctx, "DROP TRIGGER IF EXISTS "+name); err == nil {
			_, err = sc.ExecContext(ctx, m.SQL)
		}
	}
	if err == nil && m.Listed {
		err = s.addColumns(ctx, sc, name)
	}
	return err
}

// Original reports whether the database has a sync_control that the original made, and Migrate has not adopted it yet.
func (s *Store) Original(ctx context.Context) (yes bool, err error) {
	err = s.db.QueryRowContext(ctx, `SELECT COUNT(*) > 0 AND COALESCE(SUM(column_name = 'enabled'), 0) = 0
		FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'sync_control'`).Scan(&yes)
	return yes, public(err)
}

// addColumns adds the declared columns that a table lacks. It does nothing to a trigger. The original's sync_control
// keeps its columns and rows as they are. What is added to it comes last and is invisible to SELECT * and to an INSERT
// without names, so that the original's programs can go on with the table.
func (s *Store) addColumns(ctx context.Context, sc *sql.Conn, table string) error {
	there := map[string]bool{}
	err := each(ctx, sc, `SELECT LOWER(column_name) FROM information_schema.columns
		WHERE table_schema = DATABASE() AND table_name = ?`, func(scan scanner) error {
		var name string
		err := scan(&name)
		there[name] = true
		return err
	}, []any{table})
	if err != nil {
		return err
	}
	var missing []string
	adopts := table == "sync_control" && !there["enabled"]
	after := " FIRST"
	for _, d := range s.columns.definitions(table) {
		place := after
		if after = " AFTER " + d.name; there[d.name] {
			continue
		}
		if adopts {
			place = " INVISIBLE"
		}
		missing = append(missing, "ADD COLUMN "+d.column+place)
		if d.check != "" {
			missing = append(missing, "ADD "+d.check)
		}
	}
	if missing == nil {
		return nil
	}
	if adopts {
		missing = append(missing, "ENGINE = InnoDB")
	}
	_, err = sc.ExecContext(ctx, "ALTER TABLE "+table+" "+strings.Join(missing, ", "))
	return err
}
