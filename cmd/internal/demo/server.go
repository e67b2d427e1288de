package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"syncgate/internal/harness"
	"syncgate/internal/text"
)

// enrolment is what `point add` prints.
type enrolment struct {
	KeyID uint32 `json:"key_id"`
	Key   []byte `json:"key"` // 32 bytes
}

// enrol enrols the point and starts the server, both by the commands that a person would use.
func (d *demo) enrol(ctx context.Context) error {
	var errs bytes.Buffer
	add := d.command(ctx, "point", "add", point, "--format", "json")
	add.Stderr = &errs
	out, err := add.Output()
	if err == nil {
		err = json.Unmarshal(out, &d.key)
	}
	if err == nil && len(d.key.Key) != 32 {
		err = errors.New("no key")
	}
	if err != nil {
		return fmt.Errorf("point add: %w %s", err, errs.Bytes())
	}
	d.address = "127.0.0.1:0"
	if err := d.serve(ctx); err != nil {
		return err
	}
	d.ends = append(d.ends, func() error { return d.server.Stop(time.Minute) })
	d.say("server    %s, point %s enrolled", d.address, point)
	return nil
}

// command is a syncgate command on the centre's database. It does not see settings made for a real server.
func (d *demo) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, d.Program, args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "SYNCGATE_") })
	cmd.Env = append(cmd.Env, "SYNCGATE_LOG_FORMAT=json",
		"SYNCGATE_DSN="+d.centre.DSN, "SYNCGATE_DATA_DIR="+filepath.Join(d.dir, "server"))
	return cmd
}

// serve starts the server at d.address and waits until it listens.
func (d *demo) serve(ctx context.Context) (err error) {
	d.server, err = harness.Start(d.command(context.WithoutCancel(ctx), "serve", "--listen", d.address))
	if err != nil {
		return err
	}
	line, err := d.server.WaitLog(ctx, "listening")
	if err != nil {
		_ = d.server.Kill() // it may have ended, which err says
		return fmt.Errorf("the server does not start: %w", err)
	}
	d.address = fmt.Sprint(line["address"])
	return nil
}

// crash kills the server as a power cut would, and starts another in its place.
func (d *demo) crash(ctx context.Context, rows int) error {
	if err := d.server.Kill(); err != nil {
		return err
	}
	d.say("crash     server killed with -9 after %s rows were acknowledged", text.Digits(rows))
	began := time.Now()
	if err := d.serve(ctx); err != nil {
		return err
	}
	d.say("          started again in %.2f s", time.Since(began).Seconds())
	return nil
}
