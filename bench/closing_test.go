package main

import (
	"strings"
	"testing"
)

// What wrk 4.1.0 printed.
const wrkSaid = `Running 2s test @ http://192.0.2.100:8080/
  1 threads and 50 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     2.51ms    1.02ms  20.63ms   86.01%
    Req/Sec    12.15k     1.11k   14.02k    70.00%
  Latency Distribution
     50%    2.31ms
     75%    2.83ms
     90%    3.46ms
     99%  %LATENCY%
  24205 requests in 2.00s, 3.60MB read
  Socket errors: connect 0, read 0, write 0, timeout 3
Requests/sec:  12090.55
Transfer/sec:      1.80MB
`

func TestWrkSays(t *testing.T) {
	for text, want := range map[string]float64{"6.32ms": 6.32, "1.02s": 1020, "635.00us": 0.635, "1.00m": 60000} {
		rate, p99, err := parseWrk(strings.Replace(wrkSaid, "%LATENCY%", text, 1))
		if err != nil || rate != 12090.55 || p99 != want {
			t.Errorf("%s: %v/s, %v ms, %v; want 12090.55/s, %v ms", text, rate, p99, err, want)
		}
	}
}

// wrk that says nothing of its rate has measured none.
func TestWrkThatSaysLittle(t *testing.T) {
	for _, text := range []string{"", "unable to connect to 192.0.2.100:8080 Connection refused\n", strings.Split(wrkSaid, "24205")[0]} {
		if _, _, err := parseWrk(text); err == nil {
			t.Errorf("no error for %q", text)
		}
	}
}

// Counters are those of both CPUs together, and hexadecimal.
func TestConntrackCounters(t *testing.T) {
	const text = `entries  clashres found insert_failed drop early_drop
00000007  00000000 00000000 0000000a 00000002 00000000
00000007  00000000 00000000 00000001 00000010 00000000
`
	if n, err := conntrackCounters(text, "insert_failed", "drop"); err != nil || n != 10+1+2+16 {
		t.Errorf("got %d, %v; want 29", n, err)
	}
	for _, bad := range []string{"", "entries found\n", "drop insert_failed\n0000zz 0\n", "insert_failed drop\n00000001\n"} {
		if n, err := conntrackCounters(bad, "drop"); err == nil {
			t.Errorf("%q: got %d", bad, n)
		}
	}
}

// Each scene has a name of its own, by which it is chosen, and is compared with
// what is not translated.
func TestScenesHaveNamesOfTheirOwn(t *testing.T) {
	for _, whole := range []bool{false, true} {
		seen := map[string]bool{}
		for _, s := range (&bench{whole: whole}).scenes() {
			if seen[s.String()] {
				t.Errorf("two scenes are called %s", s)
			}
			seen[s.String()] = true
			if s.beds[0].Ports != portsUntranslated {
				t.Errorf("%s is compared with %s", s, s.beds[0])
			}
		}
	}
}

// Ratios to Flannel's are taken round by round, and it has none to itself.
func TestClosingIsComparedRoundByRound(t *testing.T) {
	of := func(ports string, rates ...float64) closingResult {
		return closingResult{bedKind: bedKind{Ports: ports}, Loads: []loadResult{{Rates: rates}}}
	}
	results := []closingResult{of(portsUntranslated, 10, 20, 40), of(portsPlain, 5, 20, 10), of(portsOfFlannel, 5, 5, 5)}
	compare(results)
	plain := results[1].Loads[0]
	if plain.ToFirst != (estimate{0.5, 0.25, 1}) || plain.ToFlannel == nil || *plain.ToFlannel != (estimate{2, 1, 4}) {
		t.Errorf("got %v and %v", plain.ToFirst, plain.ToFlannel)
	}
	if results[2].Loads[0].ToFlannel != nil {
		t.Error("Flannel's is compared with itself")
	}
}
