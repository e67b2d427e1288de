package protocol

import (
	"fmt"
	"unicode/utf8"
)

// legacyNames are the words in a packet that fielded agents differ in. The defaults are their names in configuration.
type legacyNames struct {
	userID, business, failure, info                     string // of the dict
	typ, content, tableName, tableField, isSyncdb       string // of Business
	errorFlag, errorType, errorInfo                     string // of Error
	infoType, token, time, isEnd                        string // of Info_Status
	upload, download                                    string // Type
	request, response                                   string // Info_Type
	unreadable, refused, badRule, badRequest, badServer string // Error_Type
}

// groups are the names with their defaults; within each of the first six none may be another's.
func (n *legacyNames) groups() [7]map[string]*string {
	return [...]map[string]*string{
		{"userid": &n.userID, "Business": &n.business, "Error": &n.failure, "Info_Status": &n.info},
		{"Type": &n.typ, "Content": &n.content, "Table_Name": &n.tableName, "Table_Field": &n.tableField, "Is_Syncdb": &n.isSyncdb},
		{"Error_Flag": &n.errorFlag, "Error_Type": &n.errorType, "Error_Info": &n.errorInfo},
		{"Info_Type": &n.infoType, "Security_Token": &n.token, "Time": &n.time, "Is_End": &n.isEnd},
		{"UPLOAD_DB": &n.upload, "DOLOAD_DB": &n.download},
		{"REQUEST": &n.request, "RESPONSE": &n.response},
		{"Receive_Data_Error": &n.unreadable, "Info_Certification_Error": &n.refused, "Server_config_Error": &n.badRule,
			"Client_Data_Pack_Error": &n.badRequest, "Server_DB_Error": &n.badServer},
	}
}

// newLegacyNames are the defaults with changes, which go from default name to other name.
func newLegacyNames(changes map[string]string) (legacyNames, error) {
	var n legacyNames
	left := len(changes)
	groups := n.groups()
	for i, group := range groups {
		used := make(map[string]bool)
		for name, field := range group {
			*field = name
			if other, ok := changes[name]; ok {
				if other == "" || len(other) > MaxName || !utf8.ValidString(other) {
					return n, fmt.Errorf("protocol: legacy: %q can't stand for %s", other, name)
				}
				*field = other
				left--
			}
			if used[*field] && i < len(groups)-1 {
				return n, fmt.Errorf("protocol: legacy: the name %q is there twice", *field)
			}
			used[*field] = true
		}
	}
	if left == 0 {
		return n, nil
	}
	for name := range changes {
		known := false
		for _, group := range groups {
			_, ok := group[name]
			known = known || ok
		}
		if !known {
			return n, fmt.Errorf("protocol: legacy: no name %q in a packet", name)
		}
	}
	return n, nil
}

// word is the Error_Type that tells a seed-era agent of s: the one map from numbers to words.
func (n *legacyNames) word(s Status) string {
	switch s {
	case StatusMalformed, StatusBadMD5:
		return n.unreadable
	case StatusRejected, StatusLegacyRefused:
		return n.refused
	case StatusNoRule, StatusUnknownTable, StatusRuleBroken, StatusRuleDisabled:
		return n.badRule
	case StatusRequestMismatch, StatusRequestIDReused, StatusTooLarge, StatusOpUnsupported:
		return n.badRequest
	}
	if s >= 100 && s < 200 {
		return n.badRule
	}
	return n.badServer
}
