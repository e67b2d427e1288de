// Package crypto seals and opens bytes under keys that are looked up by name. It does no I/O, logs nothing and reads no
// clock.
//
//	key file ── ParseMasterKey ──> MasterKey ── Unwrap ──> Key ── Replace ──> Keyring ── Lookup ──> handshake
//	                                   │                                                                │
//	database <─── wrapped key ─── Wrap ┘                     records, one Cipher a direction <── Split ─┘
//
// Key is the secret a detection point shares with the server under a key id; two ids may be live at once, so that a
// key is changed without an outage. Keyring finds keys without a lock. MasterKey wraps them at rest. Cipher is
// AES-256-GCM (NIST SP 800-38D) with a counter for a nonce: the record sealed n-th opens n-th or not at all. CBC
// serves the v1 wire and gives no authenticity.
package crypto
