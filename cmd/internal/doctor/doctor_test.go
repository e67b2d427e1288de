package doctor

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// Lines as MariaDB 10.11 and MySQL 8 print them.
func TestPrivileges(t *testing.T) {
	for _, tt := range []struct{ line, want string }{
		{"GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION", "ALL PRIVILEGES"},
		{"GRANT USAGE ON *.* TO `sync`@`%`", "USAGE"},
		{"GRANT SELECT, CREATE VIEW ON `centre`.* TO `sync`@`%`", "CREATE VIEW,SELECT"},
		{"GRANT SELECT ON `my\\_centre`.* TO `sync`@`%`", ""},
		{"GRANT SELECT ON `cen%`.* TO `sync`@`%`", "SELECT"},
		{"GRANT ALL PRIVILEGES ON `other`.* TO `sync`@`%`", ""},
		{"GRANT SELECT ON `centre`.`black_list` TO `sync`@`%`", ""},
		{"GRANT `SELECT`@`%` TO `sync`@`%`", ""}, // a role
	} {
		has := privileges([]string{tt.line}, "centre")
		if got := strings.Join(slices.Sorted(maps.Keys(has)), ","); got != tt.want {
			t.Errorf("%s gives %q, not %q", tt.line, got, tt.want)
		}
	}
	if has := privileges([]string{"GRANT SELECT ON `my\\_centre`.* TO `sync`@`%`"}, "my_centre"); !has["SELECT"] {
		t.Error("an escaped name is not its own")
	}
}
