package gateway

import (
	"context"
	"errors"
	"fmt"
	"time"

	"syncgate/protocol"
	"syncgate/store"
)

// Why a point cannot be asked to run a rule.
var (
	ErrNotConnected = errors.New("the point is not connected")
	ErrOldAgent     = errors.New("the point's agent does not know how to run a rule when it is asked to; " +
		"it syncs by itself. Update it to ask it")
	errPointGone = errors.New("the connection of the point has ended before the run was over; " +
		"what has moved stays moved")
)

// RunError is the outcome of a run that failed.
type RunError struct {
	Code    protocol.Status
	Message string
}

// Status is the number of the failure, for protocol.StatusOf.
func (e *RunError) Status() protocol.Status { return e.Code }

func (e *RunError) Error() string {
	return fmt.Sprintf("%s %s: %s", e.Code, e.Code.Info().Name, e.Message)
}

const (
	runAnswers = 64               // of a run that wait for the one who asked for it
	runSilence = 15 * time.Minute // after which a run is given up
)

// run is a RUN under way at a session.
type run struct {
	sub     *subscription
	id      protocol.RequestID
	answers chan *protocol.Message // closed when the session has ended
}

// runner is the subscription of a session of a point that answers RUN.
func (n *news) runner(point string) (*subscription, error) {
	err := ErrNotConnected
	for s, sub := range n.subs {
		if s.point != point {
			continue
		}
		if err = ErrOldAgent; sub.runs {
			return sub, nil
		}
	}
	return nil, err
}

func (n *news) beginRun(point string) (*run, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	sub, err := n.runner(point)
	if err != nil {
		return nil, err
	}
	r := &run{sub: sub, id: sub.s.modern.RequestID(), answers: make(chan *protocol.Message, runAnswers)}
	n.runs[r.key()] = r
	return r, nil
}

type runKey struct {
	s  *session
	id protocol.RequestID
}

func (r *run) key() runKey { return runKey{r.sub.s, r.id} }

func (n *news) endRun(r *run) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.runs, r.key())
}

// answered passes on a client's answer to a RUN. A line is left out when the one who asked has not read those before.
func (n *news) answered(s *session, m *protocol.Message) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r := n.runs[runKey{s, m.RequestID}]
	if r == nil || m.More() && len(r.answers) == runAnswers-1 {
		return
	}
	r.answers <- m
	if !m.More() {
		delete(n.runs, r.key()) // nothing comes after it
	}
}

// RunNow has a point run its rule for a table now. line gets a line at once, one whenever rows have moved, and the last
// one with the outcome; sync_log gets them too. The error is the outcome of a run that failed (*RunError), or why there
// was none: ErrNotConnected, ErrOldAgent, the end of ctx. When ctx ends, the run goes on at the point.
func (g *Gateway) RunNow(ctx context.Context, point, table, direction string, line func(store.LogLine)) error {
	began := g.o.Clock()
	say := func(status protocol.Status, text string) {
		now := g.o.Clock()
		l := store.LogLine{At: now, Point: point, Table: table, Type: direction,
			Ms: uint64(now.Sub(began).Milliseconds()), Status: uint16(status), Text: text}
		g.log.add(l)
		line(l)
	}
	r, err := g.news.beginRun(point)
	if errors.Is(err, ErrNotConnected) && g.activity.connections(point) > 0 { // one that does not subscribe
		err = ErrOldAgent
	}
	if err != nil {
		return err
	}
	defer g.news.endRun(r)
	say(protocol.StatusOK, "the point is asked to run the rule now")
	err = r.sub.s.send(&protocol.Message{Op: protocol.OpRun, RequestID: r.id,
		Body: &protocol.RunRequest{Table: table, Type: direction}}, false)
	for err == nil {
		var m *protocol.Message
		select {
		case m = <-r.answers:
		case <-time.After(runSilence):
			err = fmt.Errorf("the point has not answered for %v", runSilence)
			continue
		case <-ctx.Done():
			return ctx.Err()
		}
		switch {
		case m == nil:
			err = errPointGone
		case m.Status != protocol.StatusOK:
			err = &RunError{Code: m.Status}
			if e, bad := m.ErrorReply(); bad == nil {
				err = &RunError{m.Status, e.Message}
			}
		default:
			reply, bad := m.RunReply()
			if err = bad; err == nil {
				say(protocol.StatusOK, reply.Text)
			}
			if !m.More() {
				return err
			}
		}
	}
	say(protocol.StatusOf(err), err.Error())
	return err
}
