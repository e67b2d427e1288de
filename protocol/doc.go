// Package protocol turns bytes into messages and back: the modern wire (version 2) and the seed-era wire. It does no
// I/O, starts no goroutine, logs nothing; clock, randomness and keys are passed in. docs/protocol.md is the
// specification; the files in testdata hold every byte of whole sessions.
//
// # One frame, one message
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
// # The way of a frame
//
//	reactor ── Split ──> frame ── ServerSession.Receive ──> Event{Message} ──> business
//	reactor <── write ── frame <── ServerSession.Send <──── Message <───────── business
//
// A client does the same with Split, Client.Receive and Client.Seal.
package protocol
