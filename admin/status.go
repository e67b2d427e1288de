package admin

import "time"

// Status is what the page shows, as of one moment. Empty fields are left out.
type Status struct {
	Program string    `json:"program"` // name and version
	State   string    `json:"state"`   // serving, or why not
	Healthy bool      `json:"healthy"`
	Started time.Time `json:"started"`
	Now     time.Time `json:"now"`
	Figures []Figure  `json:"figures"` // the large numbers at the head, in order
	Points  []Point   `json:"points"`
	Rules   []Rule    `json:"rules"`
	Unknown string    `json:"unknown,omitempty"` // why points and rules cannot be read now
	// Failures are the last ones, newest first.
	Failures []Failure `json:"failures"`
}

// Figure is one number of the head with what it means. Limit 0: none.
type Figure struct {
	Name  string `json:"name"`
	Value uint64 `json:"value"`
	Limit uint64 `json:"limit,omitempty"`
	Unit  string `json:"unit,omitempty"`
}

// Point is one detection point.
type Point struct {
	Name        string    `json:"name"`
	Connections int       `json:"connections"`
	Remote      string    `json:"remote,omitempty"` // address of its newest connection
	Wire        string    `json:"wire,omitempty"`   // which wire it speaks
	Seen        time.Time `json:"seen"`             // zero: never
	RowsUp      uint64    `json:"rows_up"`          // since the start
	RowsDown    uint64    `json:"rows_down"`
	Failure     string    `json:"failure,omitempty"` // the last one
}

// Level says how a rule's state is to be read.
type Level string

// The levels of a rule's state.
const (
	Good Level = "good" // in force as written
	Warn Level = "warn" // an older version is in force
	Bad  Level = "bad"  // not in force, though it should be
	Off  Level = "off"  // switched off
)

// Rule is one row of sync_control.
type Rule struct {
	ID       uint64    `json:"id"`
	Table    string    `json:"table"`
	Type     string    `json:"type"` // upload or download
	Point    string    `json:"point"`
	Level    Level     `json:"level"`
	State    string    `json:"state"`            // one word
	Detail   string    `json:"detail,omitempty"` // why, with column and position
	LastRun  time.Time `json:"last_run"`         // zero: never
	Rows     uint64    `json:"rows"`             // moved since the start
	LastFail string    `json:"last_failure,omitempty"`
}

// Failure is one failed request.
type Failure struct {
	At      time.Time `json:"at"`
	Code    string    `json:"code"` // SG0303
	Point   string    `json:"point,omitempty"`
	Table   string    `json:"table,omitempty"`
	Message string    `json:"message"`
}
