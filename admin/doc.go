// Package admin is the window an operator looks through: a status page, health
// checks, metrics and the log as it is written. It is read-only; nothing it serves changes anything.
//
//	GET /             the status page: state, points, rules, failures, last log lines; no script, renews itself
//	GET /status.json  the same facts for programs
//	GET /metrics      Prometheus, OpenMetrics when asked for
//	GET /healthz      200 when the process works, 503 and why when it should be restarted
//	GET /readyz       200 when it takes work, 503 and why when it should get none now
//	GET /log          the last lines and every new one: text/event-stream when asked for, else plain text
//
// The package imports none of the project's: it declares the data it shows,
// and whoever wires the parts together fills it in.
//
// It has no password. On a loopback address it answers only requests whose Host is
// an address or localhost, so that a web page elsewhere can't read it through
// the operator's browser (DNS rebinding).
package admin
