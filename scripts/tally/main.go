// Command tally reads the events of go test -json, prints the packages as go
// test does, whatever failed with its output, and at the end the counts.
//
//	go run ./scripts/tally FILE
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: tally FILE")
		os.Exit(2)
	}
	f, err := os.Open(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "tally:", err)
		os.Exit(1)
	}
	defer f.Close()
	if !tally(bufio.NewScanner(f)) {
		os.Exit(1)
	}
}

// tally prints the events and reports whether tests ran and none failed or was
// skipped: a test that cannot run here is a failure, not a success.
func tally(lines *bufio.Scanner) bool {
	lines.Buffer(nil, 1<<24)
	counts := map[string]int{}
	output := map[string]*strings.Builder{}
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Println(lines.Text()) // what go itself says, of a build for instance
			continue
		}
		key := e.Package + " " + e.Test
		if output[key] == nil {
			output[key] = &strings.Builder{}
		}
		switch e.Action {
		case "output", "build-output":
			output[key].WriteString(e.Output)
		case "pass", "fail", "skip":
			finish(e, output[key].String(), counts)
			delete(output, key)
		}
	}
	fmt.Printf("%d passed, %d failed, %d skipped\n", counts["pass"], counts["fail"]+counts["package fail"], counts["skip"])
	return counts["pass"] > 0 && counts["fail"]+counts["package fail"]+counts["skip"] == 0
}

func finish(e event, output string, counts map[string]int) {
	if e.Test != "" {
		counts[e.Action]++
		if e.Action != "pass" {
			fmt.Printf("--- %s: %s %s\n%s", strings.ToUpper(e.Action), e.Package, e.Test, output)
		}
		return
	}
	if e.Action == "fail" {
		counts["package fail"]++
		fmt.Print(output)
	}
	if e.Action != "skip" { // a package without tests
		fmt.Printf("%-4s  %s  %.1fs\n", e.Action, e.Package, e.Elapsed)
	}
}
