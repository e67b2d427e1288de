// Package admin serves what an operator looks at: a status page, health checks, metrics and the log as it is written.
// Nothing it serves changes anything.
//
//	GET /             the status page: state, points, rules, failures, last log lines; no script, renews itself
//	GET /status.json  the same facts for programs
//	GET /metrics      Prometheus, OpenMetrics when asked for
//	GET /livez        200 when the process makes progress, 503 and why when it should be restarted
//	GET /healthz      the same
//	GET /readyz       200 when it takes work, 503 and why when it should get none now
//	GET /log          the last lines and every new one: text/event-stream when asked for, else plain text
//
// Points and rules are shown as store reads them; the program fills in what it alone knows.
//
// There is no password. On a loopback address the server answers only requests whose Host is an address or localhost:
// a web page elsewhere cannot read it through the operator's browser (DNS rebinding).
package admin
