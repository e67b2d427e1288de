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

import "sync/atomic"

// KeySize is the length of every symmetric key here, in bytes.
const KeySize = 32

// Key is the secret one detection point shares with the server.
type Key struct {
	Point  string // point_no, 1 to 64 bytes of UTF-8
	ID     uint32 // key id; a point may have several live ones
	Secret [KeySize]byte
}

// Keyring finds live keys by point and id. Any number of goroutines may call Lookup while another replaces the whole
// set; a lookup sees the old set or the new one.
type Keyring struct {
	keys atomic.Pointer[map[keyName]Key]
}

type keyName struct {
	point string
	id    uint32
}

// NewKeyring makes an empty ring.
func NewKeyring() *Keyring {
	r := &Keyring{}
	r.Replace(nil)
	return r
}

// Lookup returns the point's key with that id, without locking or allocating. A revoked key is not in the set.
func (r *Keyring) Lookup(point string, id uint32) (Key, bool) {
	k, ok := (*r.keys.Load())[keyName{point, id}]
	return k, ok
}

// Replace makes keys the whole set. Of two with the same point and id the later one counts.
func (r *Keyring) Replace(keys []Key) {
	m := make(map[keyName]Key, len(keys))
	for _, k := range keys {
		m[keyName{k.Point, k.ID}] = k
	}
	r.keys.Store(&m)
}
