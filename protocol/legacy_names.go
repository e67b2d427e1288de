package protocol

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// legacyNames are the words in a packet that fielded agents differ in, each under its default, which is also its name in
// configuration.
type legacyNames map[string]string

// legacyWords are the defaults: the keys of the four dicts, two pairs of constants, and the error words. No word may
// stand twice in a line but the last.
const legacyWords = `userid Business Error Info_Status
Type Content Table_Name Table_Field Is_Syncdb
Error_Flag Error_Type Error_Info
Info_Type Security_Token Time Is_End
UPLOAD_DB DOLOAD_DB
REQUEST RESPONSE
Receive_Data_Error Info_Certification_Error Server_config_Error Client_Data_Pack_Error Server_DB_Error`

// newLegacyNames are the defaults with changes, which go from default to other word.
func newLegacyNames(changes map[string]string) (legacyNames, error) {
	names := make(legacyNames)
	lines := strings.Split(legacyWords, "\n")
	for i, line := range lines {
		used := make(map[string]bool)
		for _, name := range strings.Fields(line) {
			word, changed := changes[name]
			if !changed {
				word = name
			}
			if word == "" || len(word) > MaxName || !utf8.ValidString(word) {
				return nil, fmt.Errorf("protocol: legacy: %q can't stand for %s", word, name)
			}
			if used[word] && i < len(lines)-1 {
				return nil, fmt.Errorf("protocol: legacy: the name %q is there twice", word)
			}
			used[word], names[name] = true, word
		}
	}
	for name := range changes {
		if names[name] == "" {
			return nil, fmt.Errorf("protocol: legacy: no name %q in a packet", name)
		}
	}
	return names, nil
}

// word is the Error_Type that tells a seed-era agent of s: the one map from numbers to words.
func (n legacyNames) word(s Status) string {
	switch s {
	case StatusMalformed, StatusBadMD5:
		return n["Receive_Data_Error"]
	case StatusRejected, StatusLegacyRefused:
		return n["Info_Certification_Error"]
	case StatusRequestMismatch, StatusRequestIDReused, StatusTooLarge, StatusOpUnsupported:
		return n["Client_Data_Pack_Error"]
	case StatusNoRule, StatusUnknownTable, StatusRuleBroken, StatusRuleDisabled:
		return n["Server_config_Error"]
	}
	if s >= 100 && s < 200 {
		return n["Server_config_Error"]
	}
	return n["Server_DB_Error"]
}
