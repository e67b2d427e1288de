package rowset

// Report is what a point says of itself and of its rules. Times are told as how long ago they were, because the clocks
// of a point and of the centre differ.
type Report struct {
	Software string `json:"software,omitempty"` // name and version of the agent
	Database string `json:"database,omitempty"` // version of the point's database
	ClockMs  int64  `json:"-"`                  // the point's clock when the report was sent, Unix ms
	UpMs     uint64 `json:"up_ms,omitempty"`    // since the start of the agent
	DiskFree uint64 `json:"disk_free,omitempty"`
	Memory   uint64 `json:"memory,omitempty"` // bytes that the agent has resident

	Rules []RuleReport `json:"rules,omitempty"`
}

// RuleReport is how one rule of a point stands.
type RuleReport struct {
	Table     string `json:"table"`
	Direction string `json:"direction"` // upload or download
	RuleID    uint64 `json:"-"`         // of the row that the point runs, when the centre gave it; 0: a row of its own
	Here      uint64 `json:"-"`         // of the row in force where the report is kept; it does not travel. 0: none
	State     string `json:"state"`     // one of those below
	Code      string `json:"code,omitempty"`
	Column    string `json:"column,omitempty"` // of sync_control, where the error is
	Line      uint32 `json:"line,omitempty"`
	Text      string `json:"text,omitempty"` // what is wrong

	SucceededMs uint64 `json:"succeeded_ms,omitempty"` // since the last turn that did all there was to do; 0: none yet
	FailingMs   uint64 `json:"failing_ms,omitempty"`   // since it began to fail; 0: it does not
	// LagMs is the age of the oldest row that is not acknowledged, or for a download, not applied. It may be as much
	// too high as the rule rests between two turns. 0: the rule is up to date.
	LagMs        uint64 `json:"lag_ms"`
	BacklogRows  uint64 `json:"backlog_rows"` // of an upload, as far as they were counted
	BacklogBytes uint64 `json:"backlog_bytes"`
	Quarantined  uint64 `json:"quarantined"` // rows of the table in the point's sync_quarantine
	Moved        uint64 `json:"moved"`       // rows acknowledged or applied since the agent's start
	Failures     uint64 `json:"failures"`    // turns that failed since then
}

// The states of a rule at a point.
const (
	RuleOK      = "ok"      // in force as it stands
	RuleStale   = "stale"   // its last good version is in force; the row as it stands has an error
	RuleFailing = "failing" // in force, and its last turn failed
	RuleBroken  = "broken"  // nothing of it is in force
)

// RuleMetric is a number of a rule as a metric, the same at a point and at the centre.
type RuleMetric struct {
	Name, Help string
	Counter    bool // since the agent's start
	Value      func(r *RuleReport) float64
}

// RuleMetrics are those of each rule, with the labels point, table and direction.
var RuleMetrics = []RuleMetric{
	{"rule_in_trouble", "1 while the rule is broken, stale or failing.", false,
		func(r *RuleReport) float64 { return oneIf(r.State != RuleOK) }},
	{"rule_since_success_seconds", "Time since the rule was last up to date, as reported; -1: never.", false,
		func(r *RuleReport) float64 {
			if r.SucceededMs == 0 {
				return -1
			}
			return float64(r.SucceededMs) / 1000
		}},
	{"rule_lag_seconds", "Age of the oldest row that is not acknowledged or applied.", false,
		func(r *RuleReport) float64 { return float64(r.LagMs) / 1000 }},
	{"rule_backlog_rows", "Rows of an upload that are not acknowledged, as far as they are counted.", false,
		func(r *RuleReport) float64 { return float64(r.BacklogRows) }},
	{"rule_backlog_bytes", "Bytes of these rows, about.", false,
		func(r *RuleReport) float64 { return float64(r.BacklogBytes) }},
	{"rule_quarantined_rows", "Rows of the table in the point's sync_quarantine.", false,
		func(r *RuleReport) float64 { return float64(r.Quarantined) }},
	{"rule_rows_total", "Rows acknowledged or applied since the agent's start.", true,
		func(r *RuleReport) float64 { return float64(r.Moved) }},
	{"rule_failed_turns_total", "Turns that failed since the agent's start.", true,
		func(r *RuleReport) float64 { return float64(r.Failures) }},
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
