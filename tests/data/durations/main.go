// Writes parseutil.tsv: what Vault's parseutil.ParseDurationSecond says of durations.
//
//	go run . > parseutil.tsv
//
// Columns: text, and its length in nanoseconds or "refused". The output is the same on every run.
package main

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"

	"github.com/hashicorp/go-secure-stdlib/parseutil"
)

var chosen = []string{
	"", "0", "+0", "-0", "00", "1", "3600", "+5", "-5", "007", "9223372036", "9223372037", "-9223372036", "-9223372037",
	"9223372036854775807", "9223372036854775808", "-9223372036854775808", "99999999999999999999", "1_000", "0x10", "1e3", "1.5", ".5", "5.",
	"1d", "30d", "+2d", "-3d", "0d", "d", "+d", "-d", "1.5d", "1d12h", "12h1d", "1dd", " 1d", "1 d", "1D", "106751d", "106752d", "-106751d", "-106752d",
	"99999999999999999999d", "1sd", "1hd",
	"90s", "30m", "1h", "1h30m", "1.5h", "-5m", "+5s", ".5s", "5.s", "1µs", "1μs", "1us", "1ns", "100ms", "-.5s", "+.5s", "1h1h", "1s1h", "1m.5s", "1.s.5h",
	"-1h30m", "1h-30m", "--1s", "+-1s", "-", "+", ".", "-.", ".s", "-.s", "s", "h", "1h30", "30m1", "1.2.3s", "1..5s", "1,5s", "1H", "1M", "1S", "1y", "1w", "1mo", "1min", "1sec", "1hour",
	" 1s", "1s ", "1 s", "1h 30m", "1s\u00a0", "١s", "１s", "abc", "1ms1us1ns", "1µ", "1n", "1u",
	"2562047h", "2562047h47m16.854775807s", "2562047h47m16.854775808s", "-2562047h47m16.854775808s", "-2562047h47m16.854775809s", "2562048h",
	"9223372036854775807ns", "9223372036854775808ns", "-9223372036854775808ns", "-9223372036854775809ns", "9223372036854775.807us", "9223372036854775.808us",
	"18446744073709551615ns", "18446744073709551616ns", "9223372036854775808s", "99999999999999999999s", "9223372036854775808.5ns",
	"0.3333333333333333333h", "0.9999999999999999999h", "0.9223372036854775807h", "0.9223372036854775808h", "0.9223372036854775809h", "0.05000000000000000h", "0.00000000000000000001h",
	"0.100000000000000000000h", "0.830103483285477580701h", "1.0000000001s", "1.999999999999s", "0.29m", "0.7m", "0.1m", "0.35h", "1.1h", "1.15h", "2.3h",
	"\x00", "1\x00s", "1s;", "null", "true", "inf", "NaN", "∞", "-1d2h", "1h2d", "1h0", "0h", "0s", "0x1s", "01h", "1h00m", "٣s",
}

func main() {
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	row := func(text string) {
		length, err := parseutil.ParseDurationSecond(text)
		if err != nil {
			fmt.Fprintf(out, "%s\trefused\n", text)
			return
		}
		fmt.Fprintf(out, "%s\t%d\n", text, length.Nanoseconds())
	}
	for _, text := range chosen {
		row(text)
	}
	random := rand.New(rand.NewPCG(3, 4))
	pick := func(from ...string) string { return from[random.IntN(len(from))] }
	for range 1500 {
		text := pick("", "", "", "-", "+")
		for range 1 + random.IntN(3) {
			text += fmt.Sprint(random.Int64N(1 << (1 + random.IntN(20))))
			if random.IntN(3) == 0 {
				text += "." + fmt.Sprint(random.Int64N(1<<(1+random.IntN(62))))
			}
			text += pick("h", "m", "s", "ms", "us", "µs", "ns", "h", "m", "s", "d", "")
		}
		row(text)
	}
}
