package rule_test

import (
	"fmt"

	"syncgate/rule"
)

// A mistake is named with its place and, where it can be, its cure.
func ExampleCompile() {
	facts := &rule.Table{Name: "car", Columns: []rule.Column{{Name: "id", Type: "bigint"},
		{Name: "plate", Type: "varchar"}},
		Keys: []rule.Key{{Name: "PRIMARY", Columns: []string{"id"}, Unique: true, Primary: true}}}
	_, diagnostics := rule.Compile(rule.Row{ID: 12, Table: "car", Type: rule.Upload, User: rule.Server, PointNo: "*",
		SQL: "-- downside: update\nupdate car\n   set plate = :plat where id = :id"}, facts)
	for _, d := range diagnostics {
		fmt.Println(d)
	}
	// Output:
	// sync_control id=12 sync_sql[downside] 3:16 error SG0112 there is no field plat for :plat; did you mean plate?
}

// Values are bound, whatever is in them.
func ExampleStatement_Bind() {
	plan, _ := rule.Compile(rule.Row{Table: "car", Type: rule.Upload, User: rule.Server, PointNo: "*",
		Field: "id, plate",
		SQL:   "replace into car (id, plate, point) values (:id, :plate, :point_no)"}, nil)
	s := &plan.Downside[0]
	values, err := s.Bind(nil, &rule.Env{Point: "point-01"}, []any{int64(7), "'); drop table car; --"})
	fmt.Println(s.SQL)
	fmt.Println(values, err)
	// Output:
	// replace into car (id, plate, point) values (?, ?, ?)
	// [7 '); drop table car; -- point-01] <nil>
}

// A seed-era row in plain SQL.
func ExampleConvert() {
	row, _, _ := rule.Convert(rule.Row{Table: "black_list", Type: rule.Download, User: rule.Server, PointNo: "*",
		UseCarriedState: true,
		SQL: `{'upside': ("select domain from black_list where update_time > '%s'",), ` +
			`'downside': None}`}, nil)
	fmt.Print(row.SQL)
	// Output:
	// -- upside
	// select domain from black_list where update_time > :text.state.1
}
