package agent

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/journal"
)

// A stopping disk ends the agent after some of its calls.
type stopping struct {
	journal.Local
	left int
}

type stoppingFile struct {
	journal.File
	disk *stopping
}

type stopped struct{}

func (d *stopping) called() {
	if d.left--; d.left == 0 {
		panic(stopped{})
	}
}

func (d *stopping) Create(path string) (journal.File, error) {
	f, err := d.Local.Create(path)
	d.called()
	return stoppingFile{f, d}, err
}

func (d *stopping) Append(path string) (journal.File, error) {
	f, err := d.Local.Append(path)
	d.called()
	return stoppingFile{f, d}, err
}

func (d *stopping) Rename(from, to string) error {
	defer d.called()
	return d.Local.Rename(from, to)
}

func (d *stopping) SyncDir(path string) error {
	defer d.called()
	return d.Local.SyncDir(path)
}

func (f stoppingFile) Write(b []byte) (int, error) {
	defer f.disk.called()
	if f.disk.left == 1 { // in the middle of it
		b = b[:len(b)/2]
	}
	return f.File.Write(b)
}

func (f stoppingFile) Sync() error {
	defer f.disk.called()
	return f.File.Sync()
}

func (f stoppingFile) Close() error {
	defer f.disk.called()
	return f.File.Close()
}

// killed takes a turn that ends after so many calls of the disk, if it makes as many.
func (n *node) killed(calls int) (was bool) {
	n.kept.Journal.Disk = &stopping{left: calls}
	n.host.Do(func() (err error) {
		defer func() {
			if r := recover(); r != nil {
				if was = r == any(stopped{}); !was {
					panic(r)
				}
			}
		}()
		return n.turn()
	})
	return was
}

// Killed at every step of a turn that allocates (while a line is added, while the file is
// written anew, while that of an earlier release becomes one, and between the disk and the
// kernel): whoever has something in the kernel keeps it, and nobody else gets it.
func TestAnAgentKilledAtEveryStepGivesNothingTwice(t *testing.T) {
	for how, begin := range map[string]func(n *node){
		"a line more": func(*node) {},
		"anew":        func(n *node) { n.kept.Journal = &journal.Journal{Path: n.kept.Journal.Path} },
		"an upgrade": func(n *node) {
			n.asEarlier(t, n.given, time.Time{})
			n.restart(t)
		},
		"after an end": func(n *node) { n.leave(); n.restart(t) },
	} {
		t.Run(how, func(t *testing.T) {
			n := newNode(t, nodes, manyKept)
			pods := map[string]string{}
			add := func(name string) {
				n.chained(t, name)
				pods[name] = n.book.Find(name + "@eth0").Addresses[0].String()
				n.mappings(t, pods)
			}
			add("a")
			add("b")
			n.mustTurn(t)
			for calls := 1; ; calls++ {
				before := n.led(t)
				begin(n)
				add(fmt.Sprintf("c%02d", calls))
				was := n.killed(calls)
				if was && !maps.Equal(n.led(t), before) {
					t.Fatalf("killed after call %d, and the kernel holds something new", calls)
				}
				if !was {
					before = n.led(t)
				}
				n.restart(t)
				add(fmt.Sprintf("b%02d", calls)) // which comes before
				n.mustTurn(t)
				checkLed(t, fmt.Sprintf("after call %d", calls), before, n.led(t))
				if led := len(n.led(t)); led != 5*len(pods) {
					t.Fatalf("after call %d: %d are led, want %d", calls, led, 5*len(pods))
				}
				if log := n.log.String(); strings.Contains(log, "level=WARN") {
					t.Fatalf("after call %d:\n%s", calls, log)
				}
				if !was {
					t.Logf("%d calls", calls-1)
					if left, err := os.ReadDir(n.config.StateDir); err != nil || slices.ContainsFunc(left, func(e os.DirEntry) bool { return strings.HasSuffix(e.Name(), ".damaged") }) {
						t.Errorf("%v, %v", left, err)
					}
					return
				}
			}
		})
	}
}

// checkLed compares what the kernel leads with what it led. What it leads are ports by
// their numbers, each once, and blocks by pods' addresses: those are not to be shared.
func checkLed(t *testing.T, when string, before, after map[string]string) {
	t.Helper()
	for key, value := range before {
		if after[key] != value {
			t.Fatalf("%s: %s leads to %s, and led to %s", when, key, after[key], value)
		}
	}
	values := map[string]string{}
	for key, value := range after {
		if other := values[value]; other != "" {
			t.Fatalf("%s: %s and %s both have %s", when, key, other, value)
		}
		values[value] = key
	}
}
