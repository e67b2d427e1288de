package rule

import "strings"

// keywords may stand in a statement without quotes where a column could, and are none.
// Words that are keywords only in front of a bracket or a string need not be here, nor
// those of statements that no rule runs.
var keywords = wordSet(`all and any array as asc between bigint binary boolean both by case cast char character charset
 collate column condition convert create cross current current_date current_time current_timestamp current_user database
 date datetime day day_hour day_microsecond day_minute day_second dec decimal default delayed delete desc distinct
 distinctrow div double dual duplicate else empty end escape except exists expansion false first float following for force
 from full fulltext group grouping groups having high_priority hour hour_microsecond hour_minute hour_second if ignore in
 index insert int integer intersect interval into is join json key language last lateral left like limit lock locked long
 low_priority match member microsecond minute minute_microsecond minute_second mod mode month natural new next not nowait
 null nulls of offset on only or order outer over partition preceding precision primary procedure quarter query quick range
 read real recursive regexp replace right rlike rollup row row_number rows schema second second_microsecond select
 separator set share signed skip some sounds sql_big_result sql_buffer_result sql_cache sql_calc_found_rows sql_no_cache
 sql_small_result straight_join table then ties time timestamp to trailing leading true unbounded unicode union unique
 unknown unsigned update use using utc_date utc_time utc_timestamp value values wait week when where window with within
 write xor year year_month zerofill localtime localtimestamp varying`)

// isKeyword reports whether the token is a keyword written without quotes.
func isKeyword(t *token) bool { return t.kind == tokWord && keywords[t.value] }

func wordSet(words string) map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(words) {
		set[w] = true
	}
	return set
}
