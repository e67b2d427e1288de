package rule

import "fmt"

// Code is the number of a diagnostic, 100 to 199. It prints as SG0104, and it is the same number in the packet, the
// log, the metric and the status view.
type Code uint16

// The numbers. They are promises: a number is never given a second meaning.
const (
	BadColumn          Code = 100 // a column of the rule holds a value that is not one of the allowed words
	BadLiteral         Code = 101 // JSON or a Python literal cannot be read, or has the wrong shape
	BadSQL             Code = 102 // the SQL text cannot be read: an open string, an open bracket, a stray character
	UnknownTable       Code = 103 // the table is not in the database
	UnknownColumn      Code = 104 // the column is not in the table
	NotAllowed         Code = 105 // the statement is of a kind that this phase does not run
	SeveralStatements  Code = 106 // more than one statement stands where one is run
	ForbiddenClause    Code = 107 // INTO OUTFILE, @variables, := and the like
	ForbiddenFunction  Code = 108 // sleep(), get_lock(), load_file() and the like
	ExecutableComment  Code = 109 // /*! … */ or /*+ … */, which a server would run
	PlaceholderInText  Code = 110 // %s inside a longer literal or a name cannot be bound
	PlaceholderCount   Code = 111 // the placeholders do not match the fields that fill them
	UnknownParameter   Code = 112 // a :name that this phase has no value for
	UnknownField       Code = 113 // a field that is not among the rule's fields or the table's columns
	DuplicateField     Code = 114 // a field is named twice
	BadOperation       Code = 115 // the chain of operations does not fit the statements
	MissingPhase       Code = 116 // a phase that this rule needs has no statement
	UnusedPhase        Code = 117 // a phase that this side never runs has statements
	BadRange           Code = 118 // sync_range and sync_range_value cannot be read or do not fit the SQL
	OddPeriod          Code = 119 // the period is unreasonably short or long
	HourRange          Code = 120 // hours are hours here; the original multiplied them by 24
	FallThrough        Code = 121 // an update that matches no row goes on to the next operation; the original's did not
	NoPrimaryKey       Code = 122 // generated statements need a primary key
	NoTableFacts       Code = 123 // generated statements need the table's columns, which are not known
	NoWatermarkIndex   Code = 124 // no index begins with the column the upside advances by
	NotIdempotent      Code = 125 // applying the same row again fails or doubles it
	NoWatermark        Code = 126 // without an update_time only new rows are seen, not changed ones
	NullWatermark      Code = 127 // rows whose update_time is NULL are never read
	BadFile            Code = 128 // the file operation's name, format or column cannot be used
	BadCursor          Code = 129 // a paged upside cannot advance: its state is not selected, not ordered by or missing
	UnboundedRead      Code = 130 // the upside reads the whole table each time
	MissingPeer        Code = 131 // the other side's row for this table and direction is missing
	DuplicateRule      Code = 132 // two rows for one table, direction, side and point
	Loop               Code = 133 // the row would travel up and down for ever
	NoUpdateTime       Code = 134 // sync_is_update_time is set, but the rule has no field update_time
	StateMismatch      Code = 135 // the carried-state or update-state switches do not fit the statements
	BadOption          Code = 136 // an option or a section heading that is not known
	LockingRead        Code = 137 // the upside locks the rows it reads
	FieldMismatch      Code = 138 // the two sides of a rule name different fields
	UnpageableKey      Code = 139 // the key's type cannot be paged by generated statements
	WholeTable         Code = 140 // an update or delete without a where touches every row
	RefusedByDatabase  Code = 141 // PREPARE refused the statement for a reason of its own
	TooLarge           Code = 142 // a column of the rule is longer than is read
	OldPlaceholder     Code = 143 // %s or ? in plain SQL, where names are used
	UnfilledColumn     Code = 144 // a column without a default is not among the fields
	SharedKey          Code = 145 // rows of two points have the same generated key
	NoRollback         Code = 146 // the table's engine keeps what a failed batch wrote
	NotRecorded        Code = 147 // the changes of the table are not recorded, or not as they should be
	MissingParent      Code = 148 // the table refers to one that no rule of this direction covers
	UnseenTransactions Code = 149 // the account may not see whose transactions are open
	UnseenDeletes      Code = 151 // reading by time sees no deleted rows and no keys that were changed
	UnguardedState     Code = 150 // update_state marks a row as sent that has changed since it was read
)

// String is the number as it is printed everywhere: SG0104.
func (c Code) String() string { return fmt.Sprintf("SG%04d", uint16(c)) }

// MarshalText makes the number a text in JSON.
func (c Code) MarshalText() ([]byte, error) { return []byte(c.String()), nil }
