package crypto_test

import (
	"fmt"
	"strings"

	"syncgate/crypto"
)

// A point's key at rest and back, and into the ring that the handshake asks.
func Example() {
	master, err := crypto.ParseMasterKey([]byte(strings.Repeat("A", 43) + "="))
	if err != nil {
		panic(err)
	}
	wrapped := master.Wrap(crypto.Key{Point: "point-01", ID: 7, Secret: [32]byte{1, 2, 3}})
	key, err := master.Unwrap("point-01", 7, wrapped)
	if err != nil {
		panic(err)
	}
	ring := crypto.NewKeyring()
	ring.Replace([]crypto.Key{key})
	_, live := ring.Lookup("point-01", 7)
	_, old := ring.Lookup("point-01", 6)
	fmt.Println(len(wrapped), live, old)
	// Output: 61 true false
}
