package agent

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
)

// servers are the gateways that the agent may use. All of them work on one central database, so a request that was sent
// to one may be repeated to another: the ledger knows it.
type servers struct {
	all  []server
	left []string // not tried yet since the last session that worked
}

type server struct {
	address string
	weight  float64 // 0: the servers are tried in their order
}

// newServers reads host:port, or several with commas between. Either none or each has *WEIGHT behind it.
func newServers(text string) (*servers, error) {
	s := &servers{}
	for part := range strings.SplitSeq(text, ",") {
		address, weight, weighted := strings.Cut(strings.TrimSpace(part), "*")
		one := server{address: address}
		_, _, err := net.SplitHostPort(address)
		if err == nil && weighted {
			if one.weight, err = strconv.ParseFloat(weight, 64); err == nil && !(one.weight > 0 && one.weight <= 1000) {
				err = fmt.Errorf("%s: the weight %s is not above 0 and at most 1000", address, weight)
			}
		}
		if err == nil && len(s.all) > 0 && weighted != (s.all[0].weight > 0) {
			err = fmt.Errorf("%s: either every server has a weight or none has", address)
		}
		if err != nil {
			return nil, fmt.Errorf("%w (an address looks like gateway.example.org:11366; "+
				"several have commas between; *WEIGHT behind each shares points out)", err)
		}
		s.all = append(s.all, one)
	}
	return s, nil
}

// CheckServers returns an error for text that Options.Server may not be.
func CheckServers(text string) error {
	_, err := newServers(text)
	return err
}

// next is the server to try now. Each is tried once before any is tried again.
func (s *servers) next() string {
	if len(s.left) == 0 {
		place := make(map[string]float64, len(s.all))
		for i, one := range s.all {
			s.left = append(s.left, one.address)
			// the least of such numbers is one's in proportion to its weight
			if place[one.address] = float64(i); one.weight > 0 {
				place[one.address] = -math.Log(1-rand.Float64()) / one.weight
			}
		}
		slices.SortStableFunc(s.left, func(a, b string) int { return cmp.Compare(place[a], place[b]) })
	}
	one := s.left[0]
	s.left = s.left[1:]
	return one
}

// more reports whether there is a server that was not tried since the last session that worked.
func (s *servers) more() bool { return len(s.left) > 0 }

// worked makes the next choice begin anew, with the server that is preferred.
func (s *servers) worked() { s.left = nil }
