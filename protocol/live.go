package protocol

import "math"

// SubscribeRequest asks to be told when other rules are in force and when tables have news.
type SubscribeRequest struct {
	Tables []string // that the client downloads; none: it asks on its own
	Runs   bool     // the client answers RUN
}

func (s *SubscribeRequest) fields(c *coder) {
	if c.has(len(s.Tables) > 0) {
		c.names(1, &s.Tables)
	}
	if c.has(s.Runs) {
		c.flag(2, &s.Runs)
	}
}

// SubscribeReply is one of the answers to SUBSCRIBE.
type SubscribeReply struct {
	PingReply
	News   []string // tables of the request with rows that the client may not have
	Polled []string // those of them whose news the server cannot tell: the client has to ask on its own
}

func (s *SubscribeReply) fields(c *coder) {
	s.PingReply.fields(c)
	if c.has(len(s.News) > 0) {
		c.names(3, &s.News)
	}
	if c.has(len(s.Polled) > 0) {
		c.names(4, &s.Polled)
	}
}

// RunRequest asks a client to run one of its rules now.
type RunRequest struct {
	Table string
	Type  string // upload or download
}

func (r *RunRequest) fields(c *coder) {
	c.text(1, &r.Table, maxName)
	c.text(2, &r.Type, maxName)
	c.check(r.Table != "", "no table")
}

// RunReply is a line of a run. The last one has the outcome.
type RunReply struct {
	Text        string // for a person; cut at 1024 bytes
	Rows        uint64 // that have moved since the run began
	Batches     uint64
	Quarantined uint64
}

func (r *RunReply) fields(c *coder) {
	c.note(1, &r.Text)
	number(c, 2, &r.Rows, math.MaxUint64)
	number(c, 3, &r.Batches, math.MaxUint64)
	number(c, 4, &r.Quarantined, math.MaxUint64)
}

func (m *Message) SubscribeRequest() (*SubscribeRequest, error) { return bodyOf[SubscribeRequest](m) }
func (m *Message) SubscribeReply() (*SubscribeReply, error)     { return bodyOf[SubscribeReply](m) }
func (m *Message) RunRequest() (*RunRequest, error)             { return bodyOf[RunRequest](m) }
func (m *Message) RunReply() (*RunReply, error)                 { return bodyOf[RunReply](m) }
