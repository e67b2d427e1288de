package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"syncgate/crypto"
)

const (
	v1Key   = "0123456789abcdef"
	v1Token = "token key"
	v1Rows  = 20_000 // of a download
)

// v1Server is a server of the v1 wire: syncgate, or the model of the original in bench/original.
type v1Server struct {
	name, address string
	pid           int
	spent         time.Duration // its own processor time in downloads
	rows          int
}

// original compares syncgate with the model of the original. Both serve the same rules and tables of one database.
func original(ctx context.Context, o options) (err error) {
	o.rows = v1Rows
	b, err := newBench(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	for _, q := range []string{"DELETE FROM sync_control",
		`INSERT INTO sync_control (sync_table, sync_type, sync_user, sync_field, sync_operation_type, sync_sql) VALUES
			('up_rows', 'upload', 'server', '("id","url","ip","title","update_time")',
			"{'upside': None, 'downside': 'insert'}",
			'{"upside": None, "downside": ("insert into up_rows (id,url,ip,title,update_time) values (''%s'',''%s'',''%s'',''%s'',''%s'') on duplicate key update url=values(url),ip=values(ip),title=values(title),update_time=values(update_time)",)}'),
			('down_rows', 'download', 'server', '("id","url","ip","title","update_time")',
			"{'upside': 'select', 'downside': None}",
			"{'upside': ('select id,url,ip,title,update_time from down_rows',), 'downside': None}")`,
	} {
		if _, err := b.db.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	sides, err := b.v1Servers(ctx)
	if err != nil {
		return err
	}
	uploads := func(conns, points, size int) []side {
		var all []side
		for _, s := range sides {
			all = append(all, side{s.name, b.v1Uploads(s, conns, points, size)})
		}
		return all
	}
	downloads := []side{{sides[0].name, b.v1Downloads(sides[0])}, {sides[1].name, b.v1Downloads(sides[1])}}
	fmt.Println("| work over the v1 wire | side | rows/s | ratio | goal |\n|---|---|---|---|---|")
	const empty = "TRUNCATE up_rows"
	for _, c := range []contest{
		{"one-row packets, 1 connection", 5, empty, uploads(1, 1, 1)},
		{"one-row packets, 8 connections of one point", 10, empty, uploads(8, 1, 1)},
		{"one-row packets, 8 points", 15, empty, uploads(8, 8, 1)},
		{"1,000-row packets, 1 connection", 40, empty, uploads(1, 1, 1000)},
		{"downloads of 20,000 rows", 3, "", downloads},
	} {
		if !strings.Contains(c.name, o.only) {
			continue
		}
		if err := c.hold(ctx, b.db, o.rounds); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	for _, s := range sides {
		if s.rows > 0 {
			fmt.Printf("\nDownloads, processor time of %s without the database: %.2f µs a row", s.name,
				s.spent.Seconds()*1e6/float64(s.rows))
		}
	}
	fmt.Println()
	return nil
}

// v1Servers starts syncgate with the v1 wire, and the model.
func (b *bench) v1Servers(ctx context.Context) ([]*v1Server, error) {
	stop, pid, err := b.serve(ctx, "SYNCGATE_LISTEN_LEGACY=127.0.0.1:0", "SYNCGATE_LEGACY_KEY=text:"+v1Key,
		"SYNCGATE_LEGACY_TOKEN_KEY="+v1Token, "SYNCGATE_LEGACY_NETWORKS=127.0.0.0/8", "SYNCGATE_LEGACY_TIME_ZONE=UTC")
	if err != nil {
		return nil, err
	}
	b.stops = append(b.stops, stop)
	cfg, err := mysql.ParseDSN(b.dsn)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "/usr/bin/python3", "original/server.py", cfg.Addr, cfg.DBName, v1Key, v1Token)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, err
	}
	b.stops = append(b.stops, func() error { _ = cmd.Process.Kill(); _ = cmd.Wait(); return nil }) // it was killed
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("the model of the original needs the packages python3-mysqldb and "+
			"python3-cryptography: %w", err)
	}
	return []*v1Server{{name: "syncgate", address: b.legacy, pid: pid},
		{name: "original's way", address: "127.0.0.1:" + strings.TrimSpace(port), pid: cmd.Process.Pid}}, nil
}

// v1Client is one connection on the v1 wire.
type v1Client struct {
	net.Conn
	in    *bufio.Reader
	cbc   *crypto.CBC
	point string
	sent  int
}

func v1Dial(address, point string) (*v1Client, error) {
	cbc, err := crypto.NewCBC([]byte(v1Key), []byte(v1Key))
	if err != nil {
		return nil, err
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	return &v1Client{Conn: conn, in: bufio.NewReaderSize(conn, 1<<20), cbc: cbc, point: point}, nil
}

// ask sends a request and reads the reply.
func (c *v1Client) ask(kind, table, content string) (reply []byte, err error) {
	c.sent++
	at := time.Now().UTC().Format("2006-01-02 15:04:05.000000")
	text := fmt.Sprintf("{'userid': '%s', 'Business': {'Type': '%s', 'Content': %s, 'Table_Name': '%s', "+
		"'Table_Field': None, 'Is_Syncdb': True}, 'Error': {'Error_Flag': False, 'Error_Type': None, 'Error_Info': "+
		"None}, 'Info_Status': {'Info_Type': 'REQUEST', 'Security_Token': '%x', 'Time': '%s', 'Is_End': True}}",
		c.point, kind, content, table, md5.Sum([]byte(content+at+v1Token)), at)
	payload := hex.EncodeToString(c.cbc.Seal([]byte(text)))
	sum := md5.Sum([]byte(payload))
	digits := hex.EncodeToString(sum[:])
	if _, err := c.Write([]byte(digits[:16] + payload + digits[16:] + "\n\r\n")); err != nil {
		return nil, err
	}
	for !bytes.HasSuffix(reply, []byte("\n\r\n")) {
		piece, err := c.in.ReadBytes('\n')
		if err != nil {
			return nil, err
		}
		reply = append(reply, piece...)
	}
	box, err := hex.DecodeString(string(reply[16 : len(reply)-19]))
	if err != nil {
		return nil, err
	}
	if reply, err = c.cbc.Open(box); err == nil && !bytes.Contains(reply, []byte("'Error_Flag': False")) {
		err = fmt.Errorf("%s is answered with %.500s", kind, reply)
	}
	return reply, err
}

func (b *bench) v1Uploads(s *v1Server, conns, points, size int) func(context.Context) (int, time.Duration, error) {
	return func(ctx context.Context) (int, time.Duration, error) {
		clients := make([]*v1Client, conns)
		for i := range clients {
			var err error
			if clients[i], err = v1Dial(s.address, fmt.Sprintf("point-%02d", i%points)); err != nil {
				return 0, 0, err
			}
			defer clients[i].Close()
		}
		return b.together(ctx, conns, func(ctx context.Context, i int, moved func(int)) error {
			for ctx.Err() == nil {
				var content strings.Builder
				for at, values := 0, b.rows(size).Values; at < len(values); at += 5 {
					content.WriteString([2]string{"[", ", "}[min(at, 1)])
					fmt.Fprintf(&content, "(%d, '%s', '%s', '%s', '%s')", values[at:at+5]...)
				}
				if _, err := clients[i].ask("UPLOAD_DB", "up_rows", content.String()+"]"); err != nil {
					return err
				}
				moved(size)
			}
			return nil
		})
	}
}

func (b *bench) v1Downloads(s *v1Server) func(context.Context) (int, time.Duration, error) {
	return func(ctx context.Context) (int, time.Duration, error) {
		c, err := v1Dial(s.address, "point-00")
		if err != nil {
			return 0, 0, err
		}
		defer c.Close()
		before, err := processorTime(s.pid)
		if err != nil {
			return 0, 0, err
		}
		rows, took, err := b.together(ctx, 1, func(ctx context.Context, _ int, moved func(int)) error {
			for ctx.Err() == nil {
				reply, err := c.ask("DOLOAD_DB", "down_rows", "[]")
				if n := bytes.Count(reply, []byte("http://host-")); err == nil && n != v1Rows {
					err = fmt.Errorf("%d rows came", n)
				}
				if err != nil {
					return err
				}
				moved(v1Rows)
			}
			return nil
		})
		after, failed := processorTime(s.pid)
		s.spent, s.rows = s.spent+after-before, s.rows+rows
		return rows, took, errors.Join(err, failed)
	}
}

// processorTime is what a process has used so far.
func processorTime(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')'):])) // the name before may have blanks
	user, err := strconv.Atoi(fields[12])
	if err != nil {
		return 0, err
	}
	system, err := strconv.Atoi(fields[13])
	return time.Duration(user+system) * 10 * time.Millisecond, err // USER_HZ is 100
}
