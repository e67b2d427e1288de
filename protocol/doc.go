// Package protocol encodes and decodes the messages of both wires: v2, which syncgate's own agent uses, and v1, which
// the original's agents use. The package does no I/O, starts no goroutine and writes no log. Its callers pass in the
// clock, the randomness and the keys. docs/protocol.md is the specification; testdata holds every byte of whole
// sessions.
//
// # The v2 wire
//
// A connection carries frames. frame.go has their layout and that of the sealed records in DATA frames, and message.go
// the ops. All integers are big-endian. The handshake is Noise_NNpsk0_25519_AESGCM_SHA256:
//
//	client                                                       server
//	  ├── HELLO: e, {versions, software, clock} under psk ────────>│ finds the psk by point_no and key_id,
//	  │                                                            │ opens the payload before any curve operation
//	  │<── WELCOME: e, ee, {limits, clock, rules version} ─────────┤
//	  ├── DATA 0: PING, at most 512 bytes ────────────────────────>│ established: the HELLO was no replay
//	  ├── DATA: requests ─────────── both ways ───────── replies ──┤
//
// # The v1 wire
//
// A connection carries packets, each with one request or one reply. legacy.go has their layout. Names of the v1
// wire begin with Legacy.
//
// # From bytes to a request, and from a reply to bytes
//
//  1. The reactor cuts the input into frames with Split or SplitLegacy.
//  2. Session.Receive checks the MD5, decrypts, and returns an Event with a Message.
//  3. Message.UploadRequest, or another accessor, decodes the payload for package business.
//  4. Message.Reply makes the reply; RowEncoder makes the parts of a download.
//  5. Session.Send encodes the payload, encrypts it, and writes the frame.
//
// Session is a ServerSession or a LegacySession. Client does the same at the agent.
package protocol
