// Command bench puts Fairlead's datapath beside Flannel's and the kernel's own
// forwarding and prints ratios, and it times what the agent does.
//
// Everything happens in network namespaces of its own, on one machine. What is
// measured and how to read it is in README.md.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/bench/internal/traffic"
)

func main() {
	b := &bench{}
	flag.IntVar(&b.rounds, "rounds", 21, "paired rounds of each forwarding row")
	flag.DurationVar(&b.each, "each", 200*time.Millisecond, "how long one measurement takes")
	flag.IntVar(&b.repeats, "repeats", 7, "repetitions of each fast-reuse row")
	flag.StringVar(&b.only, "only", "", "measure only rows whose name contains this")
	peers := flag.Int("peers", 0, "for the program's own use: measure one size of cluster")
	pods := flag.String("families", "", "with -peers: what addresses pods have")
	mappings := flag.Int("mappings", 0, "for the program's own use: measure so many mappings")
	changed := flag.Int("changed", 0, "for the program's own use: measure one change among so many mappings")
	by := flag.String("by", "", "with -mappings: what makes them")
	flag.DurationVar(&b.load, "load", time.Second, "how long one measurement of closing connections takes")
	flag.BoolVar(&b.whole, "whole", false, "closing connections: every scene, and every way to choose ports in each")
	asJSON := flag.Bool("json", false, "print everything measured as JSON")
	flag.Parse()
	if flag.NArg() > 0 || b.rounds < 1 || b.repeats < 1 {
		fmt.Fprintln(os.Stderr, "bench: usage: bench [-rounds N] [-repeats N] [-each DURATION] [-load DURATION] [-only NAME] [-whole] [-json]")
		os.Exit(2)
	}
	do := func() error { return b.run(*asJSON) }
	switch {
	case *peers > 0:
		do = func() error { return b.scale(*peers, families(*pods)) }
	case *changed > 0:
		do = func() error { return b.changed(*changed) }
	case *mappings > 0:
		do = func() error { return b.mapChild(mappingRow{*by, *mappings}) }
	}
	if err := b.guarded(do); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// A bench is one run. Hosts belong to it as they belong to a test.
type bench struct {
	rounds, repeats int
	each, load      time.Duration
	only            string
	whole           bool
	binary          string // the command, once built
	cleanups        []func()
}

// A report is all that a run found out.
type report struct {
	Date       time.Time        `json:"date"`
	Kernel     string           `json:"kernel"`
	CPUs       int              `json:"cpus"`
	Congestion string           `json:"congestion"`
	Rounds     int              `json:"rounds"`
	Each       string           `json:"each"`
	Contests   []contestResult  `json:"contests"`
	Reuse      []reuseResult    `json:"reuse"`
	Closing    []closingResult  `json:"closing"`
	Stranger   []strangerResult `json:"stranger"`
	Plugin     []pluginResult   `json:"plugin"`
	Attach     []attachResult   `json:"attach"`
	Mappings   []mappingResult  `json:"mappings"`
	Changed    []changedResult  `json:"changed"`
	Label      *labelResult     `json:"label,omitempty"`
	Scale      []scaleResult    `json:"scale"`
}

// guarded does what ends with an error or a failure, and cleans up.
func (b *bench) guarded(do func() error) (err error) {
	defer func() {
		switch f := recover().(type) {
		case nil:
		case failure:
			err = f.error
		default:
			panic(f)
		}
	}()
	defer b.clean()
	return do()
}

func (b *bench) run(asJSON bool) error {
	kernel, err := kernelRelease()
	if err != nil {
		return err
	}
	r := report{Date: time.Now().UTC(), Kernel: kernel, CPUs: runtime.NumCPU(), Congestion: traffic.Congestion,
		Rounds: b.rounds, Each: b.each.String()}
	r.Contests = b.measureContests()
	r.Reuse = b.measureReuse()
	r.Closing = b.measureClosing()
	r.Stranger = b.measureStranger()
	r.Plugin = b.measurePlugin()
	r.Attach = b.measureAttach()
	r.Mappings = b.measureMappings()
	r.Changed = b.measureChanged()
	r.Label = b.measureLabel()
	r.Scale = b.measureScale()
	if len(r.Contests)+len(r.Reuse)+len(r.Closing)+len(r.Stranger)+len(r.Plugin)+len(r.Attach)+len(r.Mappings)+len(r.Changed)+len(r.Scale) == 0 && r.Label == nil {
		return fmt.Errorf("no row's name contains %q: see the table in bench/RESULTS.md", b.only)
	}
	if asJSON {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		return out.Encode(r)
	}
	return r.print(os.Stdout)
}

// chosen reports whether the row called name is to be measured.
func (b *bench) chosen(name string) bool { return strings.Contains(name, b.only) }

func (b *bench) progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
}

// A failure ends a run from inside; see [bench.Fatalf].
type failure struct{ error }

// Helper, Fatalf and Cleanup make a bench a netnstest.T.
func (b *bench) Helper() {}

// Fatalf ends the run.
func (b *bench) Fatalf(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }

// Cleanup calls f when the run ends, before what was registered earlier.
func (b *bench) Cleanup(f func()) { b.cleanups = append(b.cleanups, f) }

func (b *bench) clean() {
	for len(b.cleanups) > 0 {
		last := len(b.cleanups) - 1
		f := b.cleanups[last]
		b.cleanups = b.cleanups[:last]
		f()
	}
}

// dir makes a directory that goes when the run ends.
func (b *bench) dir(name string) string {
	dir, err := os.MkdirTemp("", "fairlead-bench-"+name+"-")
	if err != nil {
		b.Fatalf("%v", err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) }) // the run is over
	return dir
}

func kernelRelease() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", err
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}
