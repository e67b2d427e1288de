package protocol

import "math"

// MaxRanges is how many ranges one COMPARE may ask about.
const MaxRanges = 256

// CompareRequest asks about the centre's rows of a table in consecutive ranges of its primary key. The first range
// begins behind From; each ends at a key of Uppers, or the last one at the end of the table. Without Listed the reply
// has the number of rows and the checksum of each range. With it there is one range, of which the client lists its own
// rows, and the reply says which of them differ.
type CompareRequest struct {
	Table     string
	Direction string   // of the rule: upload or download
	Job       uint64   // of a ResyncReply, whose condition holds for the rows; 0: none
	Columns   []string // the fields that the checksums are made of
	From      []any    // a key; empty: the beginning of the table
	Uppers    []any    // key after key
	Open      bool     // the last range has no end
	Listed    bool
	Rows      []any // each the key and the checksum; a checksum of null: the row is not compared
	Send      bool  // of a download: the centre sends the differing rows with its changes
}

func (r *CompareRequest) fields(c *coder) {
	c.text(1, &r.Table, maxName)
	c.text(2, &r.Direction, maxName)
	number(c, 3, &r.Job, math.MaxUint64)
	c.names(4, &r.Columns)
	c.values(5, &r.From)
	c.values(6, &r.Uppers)
	c.flag(7, &r.Open)
	c.flag(8, &r.Listed)
	c.values(9, &r.Rows)
	c.flag(10, &r.Send)
	c.check(r.Table != "", "no table")
}

// CompareReply answers a CompareRequest.
type CompareReply struct {
	Columns   []string // those of the request that both sides compare
	Sums      []any    // of each range the number of rows and the checksum
	Missing   []uint32 // listed rows that the centre does not have, by index
	Different []uint32 // listed rows that are different there, by index
	Extra     []any    // keys that are not listed, in order
	More      bool     // there are more of them behind the last one
	Unknown   bool     // the centre cannot tell which of its rows belong to this point, so that Extra is empty
	Kept      bool     // rows in Missing are not deleted at the point, because the rule has a condition
}

func (r *CompareReply) fields(c *coder) {
	index := func(c *coder, v *uint32) { number(c, item, v, math.MaxUint32) }
	c.names(1, &r.Columns)
	c.values(2, &r.Sums)
	list(c, 3, &r.Missing, maxValues, 1, index)
	list(c, 4, &r.Different, maxValues, 1, index)
	c.values(5, &r.Extra)
	c.flag(6, &r.More)
	c.flag(7, &r.Unknown)
	c.flag(8, &r.Kept)
}

// ResyncRequest reports how far a comparison has come that the centre has asked for, and asks for the next one.
type ResyncRequest struct {
	Job          uint64 // 0: nothing is reported
	State        string // running, done or failed
	Compared     uint64 // rows of the point
	MissingThere uint64 // rows that the centre does not have
	MissingHere  uint64 // rows that the point does not have
	Different    uint64
	Note         string // for a person: the first keys, or why it failed; cut at 1024 bytes
}

func (r *ResyncRequest) fields(c *coder) {
	number(c, 1, &r.Job, math.MaxUint64)
	c.text(2, &r.State, maxName)
	number(c, 3, &r.Compared, math.MaxUint64)
	number(c, 4, &r.MissingThere, math.MaxUint64)
	number(c, 5, &r.MissingHere, math.MaxUint64)
	number(c, 6, &r.Different, math.MaxUint64)
	c.note(7, &r.Note)
}

// ResyncReply is a comparison that the centre asks the point for.
type ResyncReply struct {
	Job       uint64 // 0: there is none
	Table     string
	Direction string // of the rule: upload or download
	Where     string // which rows, a condition; empty: all
	DryRun    bool   // nothing is sent
}

func (r *ResyncReply) fields(c *coder) {
	number(c, 1, &r.Job, math.MaxUint64)
	c.text(2, &r.Table, maxName)
	c.text(3, &r.Direction, maxName)
	c.text(4, &r.Where, maxCondition)
	c.flag(5, &r.DryRun)
}

const maxCondition = 4096 // bytes
