package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	mdlayher "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/agent"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/netnstest/cluster"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/world"
)

// One mapping that comes or goes among many, in a whole agent: a pod of one port each.
// Every number has a node and a process of its own.
const (
	changedEventAtMost  = 10 * time.Millisecond // from the event to the kernel, but for one in a hundred,
	changedCPUAtMost    = 5 * time.Millisecond  // of it by the CPU,
	changedScrapeAtMost = 20 * time.Millisecond // and a scrape of metrics,
	changedGoalsOf      = 50_000                // where there are so many
	changedTimes        = 250                   // one comes and goes
	changedMetrics      = "192.0.2.1:9090"
)

var changedRows = []int{100, changedGoalsOf}

// A changedResult is what one number came to, in milliseconds; sorted, where there are
// several.
type changedResult struct {
	Mappings int       `json:"mappings"`
	Events   []float64 `json:"eventMillis"` // from a pod that comes or goes until the kernel announces the element
	CPU      float64   `json:"cpuMillis"`   // of the process until then, on average
	AllCPU   float64   `json:"allMillis"`   // for each event with all that follows on it: reports, audits, collecting garbage
	Scrapes  []float64 `json:"scrapeMillis"`
}

func changedName(mappings int) string {
	return fmt.Sprintf("one changed mapping, %d mappings", mappings)
}

// measureChanged runs this program again for each number, inside a node.
func (b *bench) measureChanged() (out []changedResult) {
	for _, n := range changedRows {
		if !b.chosen(changedName(n)) {
			continue
		}
		b.progress("%s", changedName(n))
		self, err := os.Executable()
		if err != nil {
			b.Fatalf("%v", err)
		}
		node := netnstest.New(b)
		netnstest.Wire(node, "front", netnstest.New(b), "eth0")
		node.Address("front", mappedFront.String())
		child := exec.Command(self, "-changed", strconv.Itoa(n))
		var said bytes.Buffer
		child.Stdout, child.Stderr = &said, os.Stderr
		if err := netns.Do(node.Path, child.Run); err != nil {
			b.Fatalf("%s: %v", changedName(n), err)
		}
		var r changedResult
		if err := json.Unmarshal(said.Bytes(), &r); err != nil {
			b.Fatalf("%s: %v in %s", changedName(n), err, said.String())
		}
		out = append(out, r)
	}
	return out
}

// changed is what the process of one number does. It prints its result as JSON.
func (b *bench) changed(mappings int) (err error) {
	without, with := changedObjects(mappings)
	dir := b.dir("agent")
	objects := &changing{changed: make(chan struct{})}
	objects.now.Store(without)
	a, err := agent.New(agent.Config{Node: peerName(0), Objects: objects, StateDir: filepath.Join(dir, "state"), Socket: filepath.Join(dir, "agent.sock"),
		MetricsAddress: changedMetrics, Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))})
	if err != nil {
		return err
	}
	heard, err := hearElements()
	if err != nil {
		return err
	}
	defer heard.Close()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	defer func() { stop(); err = errors.Join(err, <-ended) }()
	r := changedResult{Mappings: mappings}
	if err := r.comeAndGo(objects, heard, without, with); err != nil {
		return err
	}
	if err := r.scrape(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// comeAndGo lets one pod come and go. The first time waits for the agent to begin, and for
// what a garbage collector does then.
func (r *changedResult) comeAndGo(objects *changing, heard elementEar, without, with *source.Objects) error {
	var until, all time.Duration
	for i := range 1 + changedTimes {
		for _, c := range []struct {
			to   *source.Objects
			what mdlayher.HeaderType
		}{{with, unix.NFT_MSG_NEWSETELEM}, {without, unix.NFT_MSG_DELSETELEM}} {
			used, began := cpu(), time.Now()
			objects.set(c.to)
			at, err := heard.next(c.what)
			if err != nil {
				return err
			}
			took, by := at.Sub(began), cpu()-used
			time.Sleep(eventPause)
			if i > 0 {
				r.Events = append(r.Events, millisOf(took))
				until, all = until+by, all+cpu()-used
			} else if c.to == without {
				time.Sleep(2 * time.Second)
			}
		}
	}
	slices.Sort(r.Events)
	n := time.Duration(len(r.Events))
	r.CPU, r.AllCPU = millisOf(until/n), millisOf(all/n)
	return nil
}

// scrape asks for the metrics, as Prometheus does.
func (r *changedResult) scrape() error {
	for range changedTimes {
		began := time.Now()
		answer, err := http.Get("http://" + changedMetrics + "/metrics")
		if err != nil {
			return err
		}
		text, err := io.ReadAll(answer.Body)
		if err := errors.Join(err, answer.Body.Close()); err != nil {
			return err
		}
		r.Scrapes = append(r.Scrapes, millisOf(time.Since(began)))
		if want := fmt.Sprintf("fairlead_nodeportlocal_ports{state=\"allocated\"} %d\n", r.Mappings); !bytes.Contains(text, []byte(want)) {
			return fmt.Errorf("the metrics do not say %q", want)
		}
	}
	slices.Sort(r.Scrapes)
	return nil
}

// cpu is how long this process has used the CPU.
func cpu() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err) // it has no other error than a wrong argument
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// changedObjects are those of a node with so many pods, each mapped once, and with one pod
// more, as a source has them.
func changedObjects(mappings int) (without, with *source.Objects) {
	o := source.Objects{Revision: 1, Services: []*world.Service{mappedService("all", "all", mappedPort, 1)},
		Nodes: append(source.Objects{}.Nodes, cluster.Object(peerName(0), []string{"10.1.0.0/16"}, mappedFront.Addr()))}
	none, ports, most := "none", v1alpha1.PortRange("1024-65535"), mappedMost
	settings := &v1alpha1.AgentConfig{Spec: v1alpha1.AgentConfigSpec{Overlay: &v1alpha1.Overlay{Mode: &none},
		NodePortLocal: &v1alpha1.NodePortLocal{PortRange: &ports, MaxPerNamespace: &most}}}
	settings.Name = v1alpha1.DefaultConfig
	o.Configs = append(o.Configs, settings)
	labels := world.NewLabels(map[string]string{"all": "yes", "tier": "front"})
	var pods []*world.Pod
	for i := range mappings + 1 {
		pods = append(pods, &world.Pod{Key: world.Key{Namespace: "default", Name: fmt.Sprintf("web-%06d", i)}, Node: peerName(0),
			Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})}, Labels: labels,
			Local: &world.LocalPod{UID: fmt.Sprintf("0a1b2c3d-0000-4000-8000-%012d", i)}})
	}
	o.Pods = world.SortedPods(pods...)
	less := o
	less.Revision, less.Pods = 2, o.Pods.With(pods[mappings/2:mappings/2+1], nil, world.ComparePods)
	return &less, &o
}

func printChanged(w io.Writer, results []changedResult) error {
	fmt.Fprintf(w, "\nNodePortLocal: one mapping comes or goes among many, in ms: from the event to the kernel, %d times; and a scrape of metrics\n", 2*changedTimes)
	t := newTable(w)
	t.line("mappings", "event mean", "p50", "p99", "goal", "CPU", "goal", "CPU, all that follows", "scrape p50", "p99", "goal")
	for _, r := range results {
		goal := func(value float64, most time.Duration) string {
			if r.Mappings != changedGoalsOf {
				return ""
			}
			return fmt.Sprintf("%v: %s", millisOf(most), verdict(value <= millisOf(most)))
		}
		sum := 0.0
		for _, e := range r.Events {
			sum += e
		}
		p99, scrape := quantile(r.Events, 0.99), quantile(r.Scrapes, 0.99)
		t.line(fmt.Sprint(r.Mappings), ms(sum/float64(len(r.Events))), ms(quantile(r.Events, 0.5)), ms(p99), goal(p99, changedEventAtMost),
			ms(r.CPU), goal(r.CPU, changedCPUAtMost), ms(r.AllCPU), ms(quantile(r.Scrapes, 0.5)), ms(scrape), goal(scrape, changedScrapeAtMost))
	}
	return t.Flush()
}
