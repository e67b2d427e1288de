// Package protocol turns bytes into messages and back: the modern wire (version 2) and the seed-era wire (version 1). It
// does no I/O, starts no goroutine, logs nothing; clock, randomness and keys are passed in. docs/protocol.md is the
// specification; the files in testdata hold every byte of whole sessions.
//
// # The modern wire: one frame, one message
//
//	 0            4      5       6          8            12              12+n          28+n
//	| C5 53 47 02 | type | flags | reserved | length n   | body n bytes   | MD5 16 bytes |
//
//	type 1 HELLO    body = idlen u8 | point_no | key_id u32 | noise message 1      client → server, first
//	type 2 WELCOME  body = noise message 2                                         server → client, answer to it
//	type 3 DATA     body = AES-256-GCM of the record below                         both ways, after it
//	type 4 REJECT   body = status u16 | retry-after u32 ms                         server → client, instead of WELCOME
//
//	 0    1       2        4                            20
//	| op | flags | status | request_id 16 bytes         | payload (CBOR) |     record, before it is sealed
//
// All integers are big-endian. MD5 finds damage; it proves nothing about who sent the bytes. That is AES-GCM's: the
// nonce is the count of records in that direction, the additional data are the 12 header bytes.
//
// # Its handshake: Noise_NNpsk0_25519_AESGCM_SHA256
//
//	client                                                              server
//	  ├── HELLO: e, {versions, software, clock} under psk ───────────────>│ looks the psk up by point_no and key_id,
//	  │                                                                   │ opens the payload: no curve work before
//	  │<── WELCOME: e, ee, {limits, clock, rules version} ────────────────┤
//	  ├── DATA 0: PING, at most 512 bytes ───────────────────────────────>│ established: it was no replay
//	  ├── DATA: requests ─────────────── both ways ───────────── replies ─┤
//
// # The seed-era wire: one packet, one request or reply
//
//	 0                16              16+n              32+n       35+n
//	| MD5 hex [0:16]  | payload n     | MD5 hex [16:32] | 0A 0D 0A |     MD5 of the payload, 32 hex digits
//
//	payload = lower-case hex of AES-CBC over the text and NUL bytes up to the block
//	text    = the repr of one Python dict: {'userid': …, 'Business': {…}, 'Error': {…}, 'Info_Status': {…}}
//
// # The way of a frame
//
//	reactor ── Split ──> frame ── ServerSession.Receive ──> Event{Message} ──> business
//	reactor <── write ── frame <── ServerSession.Send <──── Message <───────── business
//
// A client does the same with Split, Client.Receive and Client.Seal, and the seed era with SplitLegacy and LegacySession.
//
// # Where it is
//
//	frame.go record.go             frames; the records in them
//	handshake.go client.go         HELLO, WELCOME, REJECT; the client's side
//	server.go limiter.go           the server's side; how many handshakes are taken up
//	message.go payload.go          what both wires carry
//	fields.go cbor.go rows.go      payloads as CBOR, written and read by one list of fields; rows straight into a payload
//	status.go statuses.tsv         the catalogue of numbers
//	legacy.go                      the seed-era wire: options, names
//	legacy_packet.go legacy_request.go legacy_values.go     its bytes, its requests, Python's values and SQL's
//	legacy_session.go legacy_memory.go                      its connections and replies; the tokens that were used
package protocol
