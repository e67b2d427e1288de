package main

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"syncgate/agent"
	"syncgate/cmd/internal/cli"
	"syncgate/internal/rowset"
	"syncgate/internal/text"
	"syncgate/protocol"
)

// transfer has the flags of push and pull.
type transfer struct {
	format
	columns    []string
	json       bool // the result
	wait       time.Duration
	state, out string
	again      bool
}

// onRemote makes a command that moves rows between the centre and a file. It needs no database.
func (f *flags) onRemote(use, short string, do func(*transfer, *cobra.Command, []string, *agent.Remote) error,
) (c *cobra.Command, x *transfer) {
	x = &transfer{}
	c = &cobra.Command{Use: use, Short: short, Args: cli.Arguments(use)}
	c.RunE = func(c *cobra.Command, args []string) (err error) {
		defer func() { err = withCode(err) }()
		if x.kind != "" {
			if err := cli.OneOf("as", x.kind, "csv", "tsv", "jsonl"); err != nil {
				return err
			}
		}
		cfg, o, err := f.load()
		if err != nil {
			return err
		}
		log, end, err := cli.Logger(c.ErrOrStderr(), cfg.LogFormat)
		if err != nil {
			return err
		}
		defer end()
		o.Software, o.Log = "syncgate-agent "+cli.Version(), log.Level(zerolog.WarnLevel)
		r, err := agent.NewRemote(*o, x.wait)
		if err != nil {
			return err
		}
		x.json = f.format == "json"
		return do(x, c, args, r)
	}
	f.add(f.formatted(c))
	c.Flags().StringVar(&x.kind, "as", "", "csv, tsv or jsonl (default: as the name of the file tells, else csv)")
	c.Flags().StringVar(&x.null, "null", `\N`, "text of NULL in csv, without quotes; '' for an empty field")
	c.Flags().DurationVar(&x.wait, "wait", time.Minute, "how long to look for a server before giving up")
	return c, x
}

// pushed is the result of a push, and with Position and File its state beside the file.
type pushed struct {
	agent.Position
	Point       string                    `json:"point"`
	Table       string                    `json:"table"`
	File        string                    `json:"sha256,omitempty"` // of the file
	Done        bool                      `json:"done"`
	Applied     uint64                    `json:"applied"`
	Quarantined uint64                    `json:"quarantined"`
	Reasons     []protocol.QuarantinedRow `json:"reasons,omitempty"` // of the first; Row counts from 1
	LeftOut     []string                  `json:"columns_left_out,omitempty"`
}

const maxReasons = 20

func (f *flags) newPush() *cobra.Command {
	const short = "Send the rows of a file, or of - for the standard input, to the centre"
	cmd, x := f.onRemote("push TABLE FILE", short, (*transfer).push)
	cmd.Flags().StringSliceVar(&x.columns, "columns", nil,
		"names of the columns, when the first line does not have them")
	cmd.Flags().StringVar(&x.state, "state", "", "file that keeps how far the push has come (default FILE.TABLE.push)")
	cmd.Flags().BoolVar(&x.again, "again", false, "begin anew, also when the file was pushed before")
	return cmd
}

// push sends a file. A push of the same file that was interrupted goes on; one that was completed sends nothing.
func (x *transfer) push(c *cobra.Command, args []string, r *agent.Remote) error {
	table, path := args[0], args[1]
	x.kind = cmp.Or(x.kind, formatOf(path))
	in := os.Stdin
	now := pushed{Point: r.Point(), Table: table}
	total := uint64(0)
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return fmt.Errorf("%w: %w", agent.ErrData, err)
		}
		defer file.Close()
		if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			return fmt.Errorf("%w: another push of %s is at work", agent.ErrTaken, path)
		}
		if total, now.File, err = x.examine(file); err != nil {
			return fmt.Errorf("%w: %s: %w", agent.ErrData, path, err)
		}
		in, x.state = file, cmp.Or(x.state, path+"."+table+".push")
	}
	before, err := x.loadState()
	switch same := before.Point == now.Point && before.Table == table && before.File == now.File; {
	case err != nil:
		return err
	case before.Epoch == 0 || x.again || before.Done && !same:
	case !same:
		return fmt.Errorf("%w: %s is of a push of another file, table or point that is not completed (row %d); "+
			"push that one again to complete it, or give --again", agent.ErrData, x.state, before.Rows)
	case before.Done && path != "-":
		fmt.Fprintf(c.ErrOrStderr(), "%s was pushed before; --again pushes it again\n", path)
		return x.report(c, &before)
	default:
		now = before
	}
	rows, err := x.open(in)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", agent.ErrData, path, err)
	}
	bar := progress{out: c.ErrOrStderr(), total: total}
	p := &agent.Push{Table: table, Position: now.Position, Next: func() (agent.Row, error) {
		row, err := rows.next()
		if err != nil && !errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: %s: %w", agent.ErrData, path, err)
		}
		return row, err
	}}
	p.Acked = func(first uint64, reply *protocol.UploadReply) {
		now.add(first, reply)
		bar.show(p.Rows)
	}
	p.Save = func(at agent.Position) error {
		now.Position = at
		return x.saveState(&now)
	}
	err = r.Push(c.Context(), p)
	bar.end()
	if err != nil {
		return fmt.Errorf("%s of %s are acknowledged: %w; the same command goes on from there",
			text.Plural(int(p.Rows), "row"), path, err)
	}
	now.Done = true
	return errors.Join(x.saveState(&now), x.report(c, &now))
}

// add takes in what became of rows.
func (p *pushed) add(first uint64, reply *protocol.UploadReply) {
	p.Applied += reply.Applied
	p.Quarantined += uint64(len(reply.Quarantined)) + reply.LeftOut
	for _, q := range reply.Quarantined[:min(len(reply.Quarantined), maxReasons-min(maxReasons, len(p.Reasons)))] {
		q.Row += uint32(first) + 1
		p.Reasons = append(p.Reasons, q)
	}
	for _, name := range reply.Unknown { // lines of jsonl need not have the same columns
		if !slices.Contains(p.LeftOut, name) {
			p.LeftOut = append(p.LeftOut, name)
		}
	}
}

// report prints a result. Rows in quarantine and columns that the centre does not have are no success.
func (x *transfer) report(c *cobra.Command, p *pushed) error {
	if x.json {
		if err := cli.WriteJSON(c.OutOrStdout(), p); err != nil {
			return err
		}
	} else {
		fmt.Fprintf(c.OutOrStdout(), "%s to %s: %s applied, %d in quarantine\n",
			text.Plural(int(p.Rows), "row"), p.Table, text.Digits(p.Applied), p.Quarantined)
	}
	var problems []string
	for _, q := range p.Reasons {
		problems = append(problems, fmt.Sprintf("row %d: %s: %s", q.Row, q.Status, q.Reason))
	}
	if n := p.Quarantined - uint64(len(p.Reasons)); n > 0 {
		problems = append(problems, fmt.Sprintf("and %s", text.Plural(int(n), "more row")))
	}
	if p.Quarantined > 0 {
		problems = append(problems, "the centre keeps these rows: 'syncgate quarantine list --point "+p.Point+"' there")
	}
	if len(p.LeftOut) > 0 {
		problems = append(problems, "the centre's table has no column "+strings.Join(p.LeftOut, ", ")+
			"; its values were left out")
	}
	if problems == nil {
		return nil
	}
	return fmt.Errorf("%w:\n%s", agent.ErrData, strings.Join(problems, "\n"))
}

// examine reads a file to its end: a mistake in its last line is told before its first row is sent.
func (x *transfer) examine(file *os.File) (rows uint64, sum string, err error) {
	hash := sha256.New()
	r, err := x.open(io.TeeReader(file, hash))
	for ; err == nil; rows++ {
		_, err = r.next()
	}
	if !errors.Is(err, io.EOF) {
		return 0, "", err
	}
	if _, err = io.Copy(hash, file); err == nil { // what is behind the end of a gzip stream
		_, err = file.Seek(0, io.SeekStart)
	}
	return rows - 1, hex.EncodeToString(hash.Sum(nil)), err
}

// open reads rows from plain or gzipped text.
func (x *transfer) open(in io.Reader) (*rowReader, error) {
	plain := bufio.NewReader(in)
	in = plain
	if mark, _ := plain.Peek(2); string(mark) == "\x1f\x8b" {
		var err error
		if in, err = gzip.NewReader(plain); err != nil {
			return nil, err
		}
	}
	return newRowReader(in, x.format, x.columns)
}

func (x *transfer) loadState() (p pushed, err error) {
	if x.state == "" {
		return p, nil
	}
	b, err := os.ReadFile(x.state)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err == nil {
		if err = json.Unmarshal(b, &p); err != nil {
			err = fmt.Errorf("%w: %s is not the state of a push: %w", agent.ErrData, x.state, err)
		}
	}
	return p, err
}

func (x *transfer) saveState(p *pushed) error {
	if x.state == "" {
		return nil
	}
	b, err := json.Marshal(p)
	if err == nil {
		err = os.WriteFile(x.state+".new", b, 0o600)
	}
	if err == nil {
		err = os.Rename(x.state+".new", x.state)
	}
	return err
}

func (f *flags) newPull() *cobra.Command {
	const short = "Write the centre's rows for this point into a file, or to the standard output"
	cmd, x := f.onRemote("pull TABLE", short, (*transfer).pull)
	cmd.Flags().StringVar(&x.out, "out", "", "`file` to write; .gz compresses. It appears when it is complete")
	return cmd
}

// pull writes into a file beside the result, which takes its name at the end. A page that was cut is written again.
func (x *transfer) pull(c *cobra.Command, args []string, r *agent.Remote) (err error) {
	x.kind = cmp.Or(x.kind, formatOf(x.out))
	dir := ""
	if x.out != "" {
		dir = filepath.Dir(x.out)
	}
	spool, err := os.CreateTemp(dir, ".pull-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, spool.Close(), os.RemoveAll(spool.Name())) }()
	bar := progress{out: c.ErrOrStderr()}
	zip := gzip.NewWriter(spool)
	var to io.Writer = spool
	if strings.HasSuffix(x.out, ".gz") {
		to = zip
	}
	var columns []string
	rows, page, end := uint64(0), uint64(0), int64(0) // end is that of the pages which are complete
	p := &agent.Pull{Table: args[0]}
	p.Begin = func() error {
		if page = 0; end == 0 {
			columns = nil
		}
		zip.Reset(spool) // a page is a member of its own
		_, err := spool.Seek(end, io.SeekStart)
		return errors.Join(err, spool.Truncate(end))
	}
	p.Rows = func(part rowset.Rows) (err error) {
		var buf []byte
		switch {
		case x.kind == "jsonl" || slices.Equal(columns, part.Columns):
		case columns == nil:
			columns = part.Columns
			buf = x.heading(columns)
		default:
			err = fmt.Errorf("%w: the rule gives rows with different columns; --as jsonl can hold them", agent.ErrData)
		}
		for i := 0; err == nil && i < part.Len(); i++ {
			buf, err = x.appendRow(buf, part.Columns, part.Row(i))
		}
		if err == nil {
			_, err = to.Write(buf)
		}
		page += uint64(part.Len())
		bar.show(rows + page)
		return err
	}
	p.Done = func() (err error) {
		if to != spool {
			err = zip.Close()
		}
		if err == nil {
			end, err = spool.Seek(0, io.SeekCurrent)
		}
		rows += page
		return err
	}
	err = r.Pull(c.Context(), p)
	if bar.end(); err != nil {
		return err
	}
	return x.deliver(c, p.Table, rows, spool)
}

// deliver gives the complete rows their place.
func (x *transfer) deliver(c *cobra.Command, table string, rows uint64, spool *os.File) error {
	result := c.OutOrStdout()
	if x.out == "" {
		if _, err := spool.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if _, err := io.Copy(c.OutOrStdout(), spool); err != nil {
			return err
		}
		result = c.ErrOrStderr()
	} else if err := errors.Join(spool.Chmod(0o644), spool.Sync(), os.Rename(spool.Name(), x.out)); err != nil {
		return err
	}
	if x.json {
		return cli.WriteJSON(result, map[string]any{"table": table, "rows": rows, "file": x.out})
	}
	_, err := fmt.Fprintf(result, "%s from %s\n", text.Plural(int(rows), "row"), table)
	return err
}

// progress shows a count on a terminal, and nothing elsewhere.
type progress struct {
	out   io.Writer
	total uint64 // 0: not known
	last  time.Time
}

func (p *progress) show(rows uint64) {
	if time.Since(p.last) < 200*time.Millisecond || !cli.IsTerminal(p.out) {
		return
	}
	p.last = time.Now()
	of := ""
	if p.total > 0 {
		of = " of " + text.Digits(p.total)
	}
	fmt.Fprintf(p.out, "\r%s%s rows ", text.Digits(rows), of)
}

// end goes to the next line.
func (p *progress) end() {
	if !p.last.IsZero() {
		fmt.Fprintln(p.out)
	}
}
