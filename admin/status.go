package admin

import (
	"time"

	"syncgate/store"
)

// Status is what the page shows, as of one moment. Empty fields are left out.
type Status struct {
	Program string           `json:"program"` // name and version
	State   string           `json:"state"`   // serving, or why not
	Healthy bool             `json:"healthy"`
	Started time.Time        `json:"started"`
	Now     time.Time        `json:"now"`
	Figures []Figure         `json:"figures"` // the large numbers at the head, in order
	Points  []Point          `json:"points"`
	Rules   []store.RuleLine `json:"rules"`
	Unknown string           `json:"unknown,omitempty"` // why points and rules cannot be read now
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

// Point is one detection point with what it has done since the start.
type Point struct {
	store.Point
	Connections int    `json:"connections"`
	Remote      string `json:"remote,omitempty"` // address of its newest connection
	RowsUp      uint64 `json:"rows_up"`
	RowsDown    uint64 `json:"rows_down"`
	Failure     string `json:"failure,omitempty"` // the last one
}

// Failure is one failed request.
type Failure struct {
	At      time.Time `json:"at"`
	Code    string    `json:"code"` // SG0303
	Point   string    `json:"point,omitempty"`
	Table   string    `json:"table,omitempty"`
	Message string    `json:"message"`
}
