package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// pluginGoal is how long the CNI plugin may take to answer VERSION, process
// start included: a container runtime runs it for every pod.
const pluginGoal = 15 * time.Millisecond

// pluginRuns is how often it is asked.
const pluginRuns = 51

// A pluginResult is how long the plugin takes to answer, in milliseconds.
type pluginResult struct {
	Name   string   `json:"name"`
	Millis estimate `json:"millis"`
	Met    bool     `json:"met"`
}

// fairlead builds the binary, once, and returns its path.
func (b *bench) fairlead() string {
	if b.binary != "" {
		return b.binary
	}
	b.binary = filepath.Join(b.dir("binary"), "fairlead")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", b.binary, "./cmd/fairlead")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("build fairlead: %v\n%s", err, out)
	}
	return b.binary
}

// measurePlugin asks the binary for its version, again and again.
func (b *bench) measurePlugin() []pluginResult {
	const name = "plugin VERSION"
	if !b.chosen(name) {
		return nil
	}
	b.progress("%s", name)
	binary := b.fairlead()
	var took []float64
	for range pluginRuns {
		ask := exec.Command(binary)
		ask.Env = []string{"CNI_COMMAND=VERSION"}
		ask.Stdin = strings.NewReader(`{"cniVersion":"1.0.0"}`)
		took = append(took, b.time(ask.Run))
	}
	e := estimateOf(took)
	return []pluginResult{{name, e, e.Low <= float64(pluginGoal.Milliseconds())}}
}

func printPlugin(w io.Writer, results []pluginResult) error {
	fmt.Fprintf(w, "\nCNI plugin: from its start to its end, %d times\n", pluginRuns)
	t := newTable(w)
	t.line("", "median", "95 %", fmt.Sprintf("goal %s", pluginGoal))
	for _, r := range results {
		t.line(r.Name, millis(r.Millis.Median), fmt.Sprintf("%.1f-%.1f", r.Millis.Low, r.Millis.High), verdict(r.Met))
	}
	return t.Flush()
}
