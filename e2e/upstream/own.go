package upstream

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A Run is one of our own tests on one kind of cluster.
type Run struct {
	Cluster string
	Test    string
	Outcome string // pass, fail or skip
	Seconds float64
	Said    []string // what it logged: its figures
}

// logged is a line that a test logs: "    file_test.go:12: what it says".
var logged = regexp.MustCompile(`^\s+\w+_test\.go:\d+: (.*)\n?$`)

// Runs reads what "go test -json" wrote into the folder, in files that end in
// .jsonl and are named after the cluster. Upstream's tests are not among them.
func Runs(folder string) ([]Run, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.jsonl"))
	if err != nil {
		return nil, err
	}
	var out []Run
	for _, f := range files {
		runs, err := runsIn(f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		out = append(out, runs...)
	}
	slices.SortStableFunc(out, func(a, b Run) int { return strings.Compare(a.Test+a.Cluster, b.Test+b.Cluster) })
	return out, nil
}

func runsIn(file string) ([]Run, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cluster := strings.TrimSuffix(filepath.Base(file), ".jsonl")
	said := map[string][]string{}
	var out []Run
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e struct {
			Action, Test, Output string
			Elapsed              float64
		}
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Test == "" || strings.HasPrefix(e.Test, "TestUpstream") {
			continue // what the harness says besides is no event
		}
		switch e.Action {
		case "output":
			if m := logged.FindStringSubmatch(e.Output); m != nil {
				said[e.Test] = append(said[e.Test], m[1])
			}
		case "pass", "fail", "skip":
			out = append(out, Run{Cluster: cluster, Test: e.Test, Outcome: e.Action, Seconds: e.Elapsed, Said: said[e.Test]})
		}
	}
	return out, lines.Err()
}
