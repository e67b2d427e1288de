// Package pyliteral reads and prints Python literals: the values that a Python 2.7 or Python 3 program writes with repr
// and reads back. There is nothing in it that could run: no names are looked up, no operators are applied, no attribute
// is followed. What is not a literal is refused with its position.
//
//	literal  = None | True | False | number | string | container | call
//	number   = ["-" | "+"] (digits ["L"] | digits "." digits ["e" …])
//	string   = [u | b | r | br] '…' "…" '''…''' """…""", adjacent ones joined
//	container= ( … ) [ … ] { key: value, … }
//	call     = datetime.datetime(…) datetime.date(…) datetime.time(…)
//	           datetime.timedelta(…) Decimal('…')
//
// Two users need it. Agents on the v1 wire send the repr of one dict, and check a reply by evaluating it and printing
// its content again; so Append must print what that Python would print, to the byte. And the columns of a rule may be
// written as a literal, by hand, over several lines, with comments; so Parse says line and column, and keeps where each
// value stood (Node). Such a column may be JSON as well, which differs in three names and in the escapes of its strings
// (Limits.JSON).
//
// The two Pythons read the same bytes differently: '\xe4\xb8\xad' is three bytes under Python 2 and three characters
// under Python 3. Limits.Dialect says which is meant; Detect finds it from what only one of them would have printed.
//
// The law that holds the two halves together, for every value a dialect has:
//
//	Parse(Append(x)) == x
//
// Text keeps lone surrogates ('\ud800') as their three generalised UTF-8 bytes ED A0 80, so that the law holds for them
// too; utf8.ValidString tells them.
package pyliteral
