// Command results writes RESULTS.md from what runs of the tests left in a folder:
// results of Kubernetes' suites, and "go test -json" of our own tests.
//
//	go run ./cmd/results FOLDER >RESULTS.md
package main

import (
	"fmt"
	"os"

	"fairlead.dev/fairlead/e2e/upstream"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: results FOLDER")
		os.Exit(2)
	}
	suites, err := upstream.Kept(os.Args[1])
	if err == nil {
		var own []upstream.Run
		if own, err = upstream.Runs(os.Args[1]); err == nil {
			_, err = fmt.Print(upstream.Markdown(suites, own))
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "results:", err)
		os.Exit(1)
	}
}
