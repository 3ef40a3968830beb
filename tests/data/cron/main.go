// Writes robfig.tsv: what robfig/cron v3, set up as Vault does it, says of cron expressions.
//
//	go run . > robfig.tsv
//
// Columns: expression, from, and the next occurrence after it, or "never", or "refused".
// The output is the same on every run.
package main

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

var instants = []string{
	"2024-02-28T23:59:59.999999999Z", // before a leap day
	"2025-01-31T00:00:00Z",           // a month's end
	"2025-12-31T23:59:59.5Z",         // a year's end
	"2026-06-15T12:34:56Z",           // a Monday
	"2096-03-01T00:00:00Z",           // eight years to the next leap day
	"1969-12-31T23:59:30.25Z",        // before the epoch
}

// Valid and invalid expressions chosen by hand, one for each rule.
var chosen = []string{
	"* * * * *", "? ? ? ? ?", "0 0 * * *", "0 3 * * 0", "30 4 1,15 * 5", "0 0 1 1 *", "59 23 31 12 *",
	"*/15 * * * *", "5/15 * * * *", "5-59/15 * * * *", "0/7 * * * *", "*/100 * * * *", "59/1 * * * *",
	"0 */6 * * *", "0 5/6 * * *", "0 0 */10 * *", "0 0 5/10 * *", "0 0 1 */3 *", "0 0 1 2/5 *",
	"0 0 29 2 *", "0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 31 * *", "0 0 30 * *", "0 0 29 feb ?",
	"0 0 29 2 1", "0 0 29 2 */2", "0 0 */1 2 1", "0 0 ?/1 * 1", "0 0 */2 * 1", "0 0 1-31 * 1", "0 0 1 * 0-6",
	"0 0 1 * */1", "0 0 1 * *,1", "0 0 *,1 * 1", "0 0 13 * 5", "0 0 13 * fri", "0 0 13 * FRI", "0 0 ? * Mon-Fri",
	"0 0 * jan,JUL,Dec *", "0 0 1 jan-mar *", "0 0 1 jan-3 *", "0 0 1 oct/2 *", "0 0 * * sun-tue/2", "0 0 * * wed/2",
	"1,2,3 4,5 6-8 7 *", "0,30 8-18/2 * * 1-5", "+5 * * * *", "007 08 01 01 06", "*-5 * * * *", "*-9-9/20 * * * *",
	"?-x * * * *", "1, * * * *", ",1,,2 * * * *", ", * * * *", "0 , * * *", "0 0 , * *", "0 0 , * 1", "0 0 * , *",
	"0 0 1 * ,", "0 0 , * ,", "  0   0 * * *  ", "0\u00a00 * * *", "*/9223372036854775807 * * * *", "1/+5 * * * *",

	"", " ", "*", "* * * *", "* * * * * *", "0 0 0 1 1 *", "@daily", "@every 1h", " @daily", "@reboot * * * *",
	"60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 0 *", "* * * 13 *", "* * * * 7", "* * * * 0-7",
	"-1 * * * *", "5-1 * * * *", "1-2-3 * * * *", "1-60 * * * *", "1- * * * *", "- * * * *", "*/0 * * * *",
	"*/-5 * * * *", "*/ * * * *", "/5 * * * *", "1/2/3 * * * *", "*/a * * * *", "a * * * *", "1.5 * * * *",
	"* * * jan */jan", "* * * * mon/tue", "* * * january *", "* * * * sunday", "jan * * * *", "* mon * * *", "* * L * *", "* * 1W * *",
	"* * * * 5#2", "* * * * 5L", "** * * * *", "*5 * * * *", "5* * * * *", "1_0 * * * *", "0x5 * * * *", "H * * * *",
	"99999999999999999999 * * * *", "*/9223372036854775808 * * * *", "* * * sat *", "0 0 * * fri-mon", "0 0 * dec-jan *",
	"60/5 * * * *", "1;2 * * * *", "1 - 2 * * * *", "٣ * * * *",
}

func main() {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	parser := cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow)

	row := func(expression string, from time.Time, occurrences int) {
		schedule, err := parser.Parse(expression)
		for range occurrences {
			at := from.Format(time.RFC3339Nano)
			if err != nil {
				fmt.Fprintf(out, "%s\t%s\trefused\n", expression, at)
				return
			}
			next := schedule.Next(from)
			if next.IsZero() {
				fmt.Fprintf(out, "%s\t%s\tnever\n", expression, at)
				return
			}
			fmt.Fprintf(out, "%s\t%s\t%s\n", expression, at, next.Format(time.RFC3339Nano))
			from = next
		}
	}

	for _, expression := range chosen {
		if _, err := parser.Parse(expression); err != nil {
			row(expression, instant(instants[0]), 1)
			continue
		}
		for _, from := range instants {
			row(expression, instant(from), 2)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 800 {
		from := time.Unix(random.Int64N(4e9), random.Int64N(1e9)).UTC()
		row(expression(random), from, 3)
	}
}

func instant(text string) time.Time {
	at, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		panic(err)
	}
	return at
}

// expression makes one that is valid more often than not.
func expression(random *rand.Rand) string {
	bounds := [][2]int{{0, 59}, {0, 23}, {1, 31}, {1, 12}, {0, 6}}
	names := [][]string{nil, nil, nil, strings.Fields("jan feb mar apr may jun jul aug sep oct nov dec"), strings.Fields("sun mon tue wed thu fri sat")}
	fields := make([]string, 5)
	for i, b := range bounds {
		items := make([]string, 1+random.IntN(3)/2)
		for j := range items {
			items[j] = item(random, b[0], b[1], names[i])
		}
		fields[i] = strings.Join(items, ",")
	}
	return strings.Join(fields, " ")
}

func item(random *rand.Rand, low, high int, names []string) string {
	value := func() string {
		n := low + random.IntN(high-low+1)
		if random.IntN(150) == 0 {
			n = high + 1
		}
		if k := n - low; k < len(names) && random.IntN(2) == 0 {
			return names[k]
		}
		return fmt.Sprint(n)
	}
	text := ""
	switch random.IntN(5) {
	case 0:
		text = "*"
	case 1:
		text = "?"
	case 2:
		text = value()
	default:
		first := low + random.IntN(high-low+1)
		text = fmt.Sprintf("%d-%d", first, first+random.IntN(high-first+1))
	}
	if random.IntN(3) == 0 {
		text += fmt.Sprintf("/%d", 1+random.IntN(high))
	}
	return text
}
