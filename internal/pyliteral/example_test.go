package pyliteral_test

import (
	"fmt"

	"syncgate/internal/pyliteral"
)

func ExampleParse() {
	src := `{'upside': ("select domain "
	                "from black_list",),   # one statement
	         'downside': None}`
	n, err := pyliteral.Parse([]byte(src), pyliteral.Limits{})
	if err != nil {
		fmt.Println(err)
		return
	}
	statement := n.Get("upside").Items[0]
	fmt.Printf("%s, from byte %d to %d\n", statement.Value, statement.Start, statement.End)
	_, err = pyliteral.Parse([]byte("((\"transfer\", None),) * 5"), pyliteral.Limits{})
	fmt.Println(err)
	// Output:
	// select domain from black_list, from byte 12 to 63
	// line 1, column 23: "*" makes an expression, not a literal: write the value out
}

func ExampleAppend() {
	row := pyliteral.Tuple{pyliteral.Unicode("中 'x'"), pyliteral.Long(3),
		pyliteral.DateTime{Year: 2020, Month: 1, Day: 2}}
	for _, d := range []pyliteral.Dialect{pyliteral.Python2, pyliteral.Python3} {
		text, err := pyliteral.Append(nil, row, d)
		fmt.Println(string(text), err)
	}
	// Output:
	// (u"\u4e2d 'x'", 3L, datetime.datetime(2020, 1, 2, 0, 0)) <nil>
	// ("中 'x'", 3, datetime.datetime(2020, 1, 2, 0, 0)) <nil>
}
