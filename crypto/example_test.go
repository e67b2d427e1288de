package crypto_test

import (
	"fmt"
	"strings"

	"syncgate/crypto"
)

// A point's key at rest and back.
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
	_, err = master.Unwrap("point-02", 7, wrapped)
	fmt.Println(len(wrapped), key.Secret[:3], err != nil)
	// Output: 61 [1 2 3] true
}
