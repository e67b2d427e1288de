package main

import (
	"context"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"syncgate/store/localdb"
)

// field is a point with its own durable database and the real agent.
type field struct {
	b   *bench
	dsn string
	db  *sql.DB
}

// moved is how many rows the agent and the copy program move.
const moved = 500_000

func newField(ctx context.Context, b *bench) (*field, error) {
	server, err := localdb.Start(ctx, localdb.Options{Dir: filepath.Join(b.dir, "point"), Durable: true})
	if err != nil {
		return nil, err
	}
	b.stops = append(b.stops, server.Stop)
	if err := server.CreateDatabase(ctx, "point"); err != nil {
		return nil, err
	}
	f := &field{b: b, dsn: server.DSN("point")}
	if f.db, err = sql.Open("mysql", f.dsn); err != nil {
		return nil, err
	}
	b.stops = append(b.stops, f.db.Close)
	if err := f.agent(ctx, "once"); err != nil { // makes the schema
		return nil, err
	}
	indexed := strings.Replace(table, "DATETIME(6) NOT NULL)", "DATETIME(6) NOT NULL, KEY (update_time, id))", 1)
	for _, name := range []string{"moved_up", "moved_down"} {
		kind := map[string]string{"moved_up": "upload", "moved_down": "download"}[name]
		for user, db := range map[string]*sql.DB{"server": b.db, "client": f.db} {
			for _, q := range []string{"CREATE TABLE " + name + indexed,
				"INSERT INTO sync_control (sync_table, sync_type, sync_user) VALUES ('" +
					name + "', '" + kind + "', '" + user + "')"} {
				if _, err := db.ExecContext(ctx, q); err != nil {
					return nil, err
				}
			}
		}
	}
	for db, name := range map[*sql.DB]string{f.db: "moved_up", b.db: "moved_down"} {
		for left := moved; left > 0; left -= 1000 {
			if _, err := db.ExecContext(ctx, insert(name, 1000), b.rows(1000).Values...); err != nil {
				return nil, err
			}
		}
	}
	return f, nil
}

// agent runs a command of the agent.
func (f *field) agent(ctx context.Context, command string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(filepath.Dir(f.b.o.server), "syncgate-agent"), command)
	key := f.b.keys[0]
	cmd.Env = append(os.Environ(), "SYNCGATE_AGENT_DSN="+f.dsn, "SYNCGATE_AGENT_SERVER="+f.b.address,
		"SYNCGATE_AGENT_POINT="+key.Point,
		fmt.Sprint("SYNCGATE_AGENT_KEY_ID=", key.ID),
		"SYNCGATE_AGENT_KEY="+base64.StdEncoding.EncodeToString(key.Secret[:]),
		"SYNCGATE_AGENT_DATA_DIR="+filepath.Join(f.b.dir, "agent"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("syncgate-agent %s: %w: %s", command, err, out)
	}
	return nil
}

// sides are the agent and the copy program for one direction.
func (f *field) sides(up bool) []side {
	from, to, name, direction := f.b.db, f.db, "moved_down", "download"
	if up {
		from, to, name, direction = f.db, f.b.db, "moved_up", "upload"
	}
	measure := func(move func(ctx context.Context) error) func(context.Context) (int, time.Duration, error) {
		return func(ctx context.Context) (int, time.Duration, error) {
			_, err := to.ExecContext(ctx, "TRUNCATE "+name)
			for _, q := range []string{"DELETE FROM sync_agent_state WHERE rule_key = '" + direction + ":" + name + "'",
				"DELETE FROM sync_agent_stream", "UPDATE sync_control SET enabled = sync_table = '" + name + "'"} {
				if err == nil {
					_, err = f.db.ExecContext(ctx, q)
				}
			}
			if err != nil {
				return 0, 0, err
			}
			began := time.Now()
			err = move(ctx)
			took, rows := time.Since(began), 0
			if err == nil {
				err = to.QueryRowContext(ctx, "SELECT COUNT(*) FROM "+name).Scan(&rows)
			}
			if err == nil && rows != moved {
				err = fmt.Errorf("%d of %d rows came", rows, moved)
			}
			return rows, took, err
		}
	}
	return []side{
		{"syncgate-agent once", measure(func(ctx context.Context) error { return f.agent(ctx, "once") })},
		{"copy program, 1,000 rows a transaction", measure(func(ctx context.Context) error {
			return copyRows(ctx, from, to, name)
		})},
	}
}

// copyRows is the plain copy program: one connection reads all rows, another writes them.
func copyRows(ctx context.Context, from, to *sql.DB, name string) (err error) {
	conn, err := to.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	st, err := conn.PrepareContext(ctx, insert(name, 1000))
	if err != nil {
		return err
	}
	defer st.Close()
	rows, err := from.QueryContext(ctx, "SELECT "+columns+" FROM "+name+" WHERE id > ? ORDER BY id", 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	batch := make([]any, 0, 5*1000)
	for rows.Next() {
		var id int64
		var url, ip, title, at string
		if err := rows.Scan(&id, &url, &ip, &title, &at); err != nil {
			return err
		}
		if batch = append(batch, id, url, ip, title, at); len(batch) == cap(batch) {
			if err := inTx(ctx, conn, st, batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	return rows.Err()
}
