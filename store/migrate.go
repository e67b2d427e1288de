package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/go-sql-driver/mysql"

	"syncgate/migrations"
)

// ErrSchema means that the schema in the database is not one this program can go on from.
var ErrSchema = errors.New("store: the schema")

// lockPatience is how long Migrate waits for another Migrate, seconds.
const lockPatience = 60

// Migrate brings the schema forward. It is safe to run at once from several processes: GET_LOCK lets one work and
// the others find everything done. report, when not nil, hears each migration that was run, and each optional one that
// the deployment does not allow, as "NAME (skipped: reason)". ErrSchema: a migration that was run differs from
// this program's, or is not known to it.
func (s *Store) Migrate(ctx context.Context, report func(name string)) error {
	all, err := migrations.Load(s.o.Set)
	if err != nil {
		return err
	}
	if report == nil {
		report = func(string) {}
	}
	if err := s.migrate(ctx, all, report); err != nil {
		return err
	}
	return s.inspect(ctx) // now with the engines of the tables
}

func (s *Store) migrate(ctx context.Context, all []migrations.Migration, report func(string)) error {
	sc, err := s.db.Conn(ctx)
	if err != nil {
		return public(err)
	}
	defer sc.Close()
	unlock, err := lockSchema(ctx, sc)
	if err != nil {
		return err
	}
	return errors.Join(forward(ctx, sc, all, report), unlock())
}

// lockSchema takes the lock of this database's schema. Lock names are global to the server and 64 long at most.
func lockSchema(ctx context.Context, sc *sql.Conn) (unlock func() error, err error) {
	const name = "CONCAT('syncgate.', MD5(DATABASE()))"
	var got sql.NullInt64
	if err := sc.QueryRowContext(ctx, fmt.Sprintf("SELECT GET_LOCK(%s, %d)", name, lockPatience)).Scan(&got); err != nil {
		return nil, public(err)
	}
	if got.Int64 != 1 {
		return nil, fmt.Errorf("%w is being migrated by another process for more than %d s", ErrSchema, lockPatience)
	}
	return func() error {
		var done sql.NullInt64
		return public(sc.QueryRowContext(context.WithoutCancel(ctx), "SELECT RELEASE_LOCK("+name+")").Scan(&done))
	}, nil
}

// forward runs what has not been run yet. Where nothing is left to run it reads one table and needs no privilege
// besides.
func forward(ctx context.Context, sc *sql.Conn, all []migrations.Migration, report func(string)) error {
	done, err := appliedAlready(ctx, sc)
	const noSuchTable = 1146
	if my := (*mysql.MySQLError)(nil); errors.As(err, &my) && my.Number == noSuchTable {
		done, err = nil, firstMigration(ctx, sc)
	}
	if err != nil {
		return public(err)
	}
	for _, m := range all {
		hash, ok := done[m.Name]
		delete(done, m.Name)
		if ok && hash != m.Hash {
			return fmt.Errorf("%w: %s was run in another wording", ErrSchema, m.Name)
		}
		if ok {
			continue
		}
		if err := apply(ctx, sc, m, report); err != nil {
			return err
		}
	}
	for name := range done {
		return fmt.Errorf("%w: %s was run here and is not known to this version: the database is newer than the program", ErrSchema, name)
	}
	return nil
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

func appliedAlready(ctx context.Context, sc *sql.Conn) (map[string]string, error) {
	rows, err := sc.QueryContext(ctx, "SELECT name, hash FROM sync_migration")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	done := map[string]string{}
	for rows.Next() {
		var name, hash string
		if err := rows.Scan(&name, &hash); err != nil {
			return nil, err
		}
		done[name] = hash
	}
	return done, rows.Err()
}

func apply(ctx context.Context, sc *sql.Conn, m migrations.Migration, report func(string)) error {
	_, err := sc.ExecContext(ctx, m.SQL)
	var my *mysql.MySQLError
	refused := errors.As(err, &my)
	const triggerExists = 1359 // made by a run that ended before it could note it; there is no IF NOT EXISTS both engines know
	switch {
	case err == nil, refused && my.Number == triggerExists:
	case refused && m.Optional && kindOf(err) == kindSQL:
		report(fmt.Sprintf("%s (skipped: %s)", m.Name, my.Message))
		return nil // tried again by the next Migrate
	default:
		return fmt.Errorf("store: migration %s: %w", m.Name, public(err))
	}
	if _, err := sc.ExecContext(ctx, "INSERT INTO sync_migration (name, hash) VALUES (?, ?)", m.Name, m.Hash); err != nil {
		return fmt.Errorf("store: migration %s: %w", m.Name, public(err))
	}
	report(m.Name)
	return nil
}
