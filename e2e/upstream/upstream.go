// Package upstream runs Kubernetes' own end-to-end tests against a cluster, and
// writes down what came of them.
package upstream

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A Suite is a choice of Kubernetes' tests.
type Suite struct {
	Name   string        // "Conformance"
	Focus  string        // regular expression; a test's whole name has to match
	Skip   string        // one that must not match; "": none
	Least  int           // so many have to run
	Within time.Duration // all of it
}

// Suites are those that this project runs, by name. Conformance is what a network
// must do for a cluster to be called Kubernetes; smoke is two minutes' choice of it.
var Suites = map[string]Suite{
	"conformance": {Name: "sig-network Conformance", Focus: `\[sig-network\].*\[Conformance\]`, Skip: `\[Serial\]`, Least: 47, Within: time.Hour},
	"smoke": {Name: "smoke", Least: 5, Within: 10 * time.Minute, Focus: strings.Join([]string{
		`should function for intra-pod communication: http`,
		`should function for node-pod communication: udp`,
		`should provide DNS for the cluster +\[Conformance\]`,
		`should be able to change the type from ExternalName to NodePort`,
		`HostPort validates that there is no conflict`,
	}, "|")},
}

// A Runner has what the tests need.
type Runner struct {
	Binary     string // e2e.test
	Kubectl    string
	Kubeconfig string
	Dir        string // where logs and reports go
	// Command prepares a command where the API server can be reached.
	Command func(ctx context.Context, name string, args ...string) *exec.Cmd
}

// A Result is what came of a suite.
type Result struct {
	Suite   string
	Cluster string // "kube-proxy nftables, containerd 2.2.9"
	When    time.Time
	Took    time.Duration
	Specs   []Spec // those that ran
}

// A Spec is one test.
type Spec struct {
	Name   string
	Passed bool
	Why    string // it did not
	Took   time.Duration
}

// Passed counts the specs that did.
func (r *Result) Passed() int {
	n := 0
	for _, s := range r.Specs {
		if s.Passed {
			n++
		}
	}
	return n
}

// reportPatience is what ginkgo has, when its own time is over, to end its tests
// and write down which.
const reportPatience = 2 * time.Minute

// Run runs the suite. Tests that fail are part of the result; an error is one of
// running them.
func (r Runner) Run(ctx context.Context, s Suite) (*Result, error) {
	if err := os.MkdirAll(r.Dir, 0o755); err != nil {
		return nil, err
	}
	report := filepath.Join(r.Dir, strings.ReplaceAll(s.Name, " ", "-")+".xml")
	if err := os.RemoveAll(report); err != nil {
		return nil, err
	}
	log, err := os.Create(strings.TrimSuffix(report, ".xml") + ".log")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	began := time.Now()
	late := s.Within + reportPatience
	ctx, cancel := context.WithTimeoutCause(ctx, late, fmt.Errorf("it did not end within %s", late))
	defer cancel()
	cmd := r.Command(ctx, r.Binary, "--ginkgo.no-color", "--ginkgo.v", "--ginkgo.timeout="+s.Within.String(), "--ginkgo.focus="+s.Focus, "--ginkgo.skip="+s.Skip,
		"--ginkgo.junit-report="+report, "--kubeconfig="+r.Kubeconfig, "--kubectl-path="+r.Kubectl, "--provider=skeleton")
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, r.Dir
	failed := cmd.Run()
	if failed != nil {
		failed = errors.Join(failed, context.Cause(ctx))
	}
	specs, err := read(report)
	if err != nil {
		return nil, fmt.Errorf("%s left no report (%w), it ended with %w: see %s", filepath.Base(r.Binary), err, failed, log.Name())
	}
	if len(specs) < max(s.Least, 1) {
		return nil, fmt.Errorf("only %d tests match %q: see %s", len(specs), s.Focus, log.Name())
	}
	if failed != nil && !slices.ContainsFunc(specs, func(s Spec) bool { return !s.Passed }) {
		return nil, fmt.Errorf("no test failed, and yet %s: %w: see %s", filepath.Base(r.Binary), failed, log.Name())
	}
	return &Result{Suite: s.Name, When: began, Took: time.Since(began), Specs: specs}, nil
}

// junit is the part of ginkgo's report that counts.
type junit struct {
	Suites []struct {
		Cases []struct {
			Name    string  `xml:"name,attr"`
			Status  string  `xml:"status,attr"`
			Seconds float64 `xml:"time,attr"`
			Failure *struct {
				Message string `xml:"message,attr"`
				Text    string `xml:",chardata"`
			} `xml:"failure"`
			Error *struct {
				Message string `xml:"message,attr"`
				Text    string `xml:",chardata"`
			} `xml:"error"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

var ofTheSuite = regexp.MustCompile(`^\[(It|ReportAfterSuite|ReportBeforeSuite|SynchronizedBeforeSuite|SynchronizedAfterSuite|DeferCleanup \(Suite\)|BeforeSuite|AfterSuite)\] ?`)

// read returns the tests of a report that ran.
func read(report string) ([]Spec, error) {
	content, err := os.ReadFile(report)
	if err != nil {
		return nil, err
	}
	var j junit
	if err := xml.Unmarshal(content, &j); err != nil {
		return nil, err
	}
	var out []Spec
	for _, s := range j.Suites {
		for _, c := range s.Cases {
			isTest := strings.HasPrefix(c.Name, "[It] ")
			if c.Status == "skipped" || c.Status == "pending" || !isTest && c.Status == "passed" {
				continue
			}
			spec := Spec{Name: ofTheSuite.ReplaceAllString(c.Name, ""), Passed: c.Status == "passed",
				Took: time.Duration(c.Seconds * float64(time.Second))}
			switch {
			case c.Failure != nil:
				spec.Why = firstLine(c.Failure.Message, c.Failure.Text)
			case c.Error != nil:
				spec.Why = firstLine(c.Error.Message, c.Error.Text)
			case !spec.Passed:
				spec.Why = c.Status
			}
			out = append(out, spec)
		}
	}
	return out, nil
}

// firstLine is the first that says something.
func firstLine(texts ...string) string {
	for _, t := range texts {
		for line := range strings.Lines(t) {
			if line = strings.TrimSpace(line); line != "" {
				return line
			}
		}
	}
	return "no reason given"
}
