// Package admin serves what an operator looks at and does: the status page, one HTTP API for page and commands, health
// checks and metrics. Two listeners serve the same routes:
//
//   - The page's address. Nothing there changes anything unless AllowActions is set. An address that is not loopback
//     asks for a token. The server answers only requests whose Host is an address or localhost, and no request that
//     another site's page sends.
//   - The control socket, a unix socket that only its owner and a group may open. Everything is allowed there.
//
// Answers are JSON. A stream is JSON lines, or server-sent events for a client that accepts them; its events have ids,
// and a client that comes again with the last one misses nothing that is kept.
//
//	GET  /                        the page
//	GET  /api/status              state, problems, load
//	GET  /api/history             rows, latency and lag of the last hour
//	GET  /api/points              ?q= &state= &sort= &desc=1 &offset= &limit=
//	GET  /api/points/{point}      one point
//	GET  /api/rules               the rules with their state and the last edit of each
//	GET  /api/quarantine          ?point= &table= &rule= &error= &after= &limit=
//	GET  /api/quarantine/counts   the same filter; rows by rule and error
//	GET  /api/synclog             sync_log, a stream: ?point= &table= &type= &status= &failed=1 &after= &limit= &follow=0
//	GET  /api/log                 the server's own log, a stream: ?point= &q= &level= &after= &follow=0
//	GET  /api/tap                 requests as they are answered, a stream that begins with {"missed": 0}:
//	                              ?point= &table= &status= &failed=1 &values=1
//	GET  /api/connections         points that are connected
//	GET  /api/loglevel
//	POST /api/quarantine/replay   {"id"} or a filter, and "force"; a stream with a line for each row
//	POST /api/quarantine/drop     {"id"} or a filter
//	POST /api/quarantine/edit     {"id", "set": {field: value}}
//	POST /api/sync-now            {"point", "table", "direction"}; a stream with the run's lines of sync_log
//	POST /api/drain               ends the server, as TERM does
//	POST /api/reload              reads the configuration again, as HUP does
//	POST /api/loglevel            {"level"}
//	GET  /livez                   200 while the process makes progress, 503 and why when it should be restarted
//	GET  /readyz                  200 while it takes work, 503 and why when it should get none now
//	GET  /metrics                 Prometheus, OpenMetrics when asked for
package admin
