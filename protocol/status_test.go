package protocol

import (
	"errors"
	"fmt"
	"testing"
)

func TestCatalogue(t *testing.T) {
	names := map[string]Status{}
	last := -1
	for _, s := range catalogue() {
		if int(s.Status) <= last {
			t.Errorf("%s is out of order", s.Status)
		}
		last = int(s.Status)
		if s.Name == "" || s.Meaning == "" || s.Remedy == "" {
			t.Errorf("%s: name, meaning and remedy are needed", s.Status)
		}
		if other, twice := names[s.Name]; twice {
			t.Errorf("%s and %s are both %s", other, s.Status, s.Name)
		}
		names[s.Name] = s.Status
		if !s.Status.Known() || s.Status.Info() != s {
			t.Errorf("%s is not found", s.Status)
		}
	}
	if s := Status(104); s.String() != "SG0104" || s.Info().Name != "UNKNOWN_COLUMN" {
		t.Error(s, s.Info())
	}
	if s := Status(999); s.Known() || s.Info().Name != "UNKNOWN" || s.Info().Status != s {
		t.Error(s.Info())
	}
}

func TestStatusOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want Status
	}{
		{nil, StatusOK},
		{errMD5, StatusBadMD5},
		{fmt.Errorf("conn: %w", ErrTooLarge), StatusTooLarge},
		{fmt.Errorf("dial: %w", &RejectError{Status: StatusBusy}), StatusBusy},
		{errors.New("strange"), StatusInternal},
	} {
		if got := StatusOf(c.err); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
	}
}

func TestNames(t *testing.T) {
	for op := OpPing; op <= OpGoAway; op++ {
		if s := op.String(); s == fmt.Sprintf("op(%d)", op) {
			t.Errorf("op %d has no name", op)
		}
	}
	if s := Op(77).String(); s != "op(77)" {
		t.Error(s)
	}
	id := MakeRequestID(0x0102030405060708, 9)
	if id.String() != "0102030405060708-0000000000000009" || id.Epoch() != 0x0102030405060708 || id.Seq() != 9 {
		t.Error(id)
	}
}
