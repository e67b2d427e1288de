package text

import "testing"

func TestDigits(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567",
		1<<64 - 1: "18,446,744,073,709,551,615"} {
		if got := Digits(n); got != want {
			t.Errorf("Digits(%d) is %q, not %q", n, got, want)
		}
	}
}

func TestPlural(t *testing.T) {
	for n, want := range map[int]string{0: "0 rows", 1: "1 row", 2: "2 rows"} {
		if got := Plural(n, "row"); got != want {
			t.Errorf("Plural(%d) is %q, not %q", n, got, want)
		}
	}
}
