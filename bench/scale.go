package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/feature/all"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/netnstest/cluster"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/source/kernel"
	"fairlead.dev/fairlead/internal/world"
)

// A node of a large cluster: what one changed pod costs, and what an agent's
// memory holds. Each size is measured in a process of its own.
const (
	scalePods  = 250 // on the node, all of them real
	scaleTimes = 60  // one pod comes and goes
	readTimes  = 3   // the whole kernel is read back

	leastChanges = 3 // of one pod: its link, and of each family a neighbour and a route
)

// scales are the sizes, with the time that one changed pod may take, and what
// pods' addresses there are. The largest has no IPv4: the kernel keeps all next
// hops of one link in one chain (net/ipv4/fib_semantics.c, fib_info_hashfn), and
// 100,000 routes there take it many minutes.
var scales = []struct {
	peers    int
	goal     time.Duration // 0: none
	families families
}{{1_000, 0, dualStack}, {10_000, 10 * time.Millisecond, dualStack}, {100_000, 20 * time.Millisecond, onlyIPv6}}

type families string

const (
	dualStack families = "IPv4, IPv6"
	onlyIPv6  families = "IPv6"
)

// A scaleResult is what one size came to. Times are in milliseconds, memory in
// bytes.
type scaleResult struct {
	Peers    int       `json:"peers"`
	Families families  `json:"families"`
	Goal     float64   `json:"goalMillis,omitempty"`
	Setup    float64   `json:"setupMillis"` // the first time all goes into the kernel
	Add      stepTimes `json:"add"`
	Delete   stepTimes `json:"delete"`
	ReadBack estimate  `json:"readBack"` // reading what is ours from the kernel, and comparing
	Heap     uint64    `json:"heap"`     // live: objects, world, state and what was read back
	RSS      uint64    `json:"rss"`
	Peak     uint64    `json:"peak"` // of RSS
}

// stepTimes are the times of the line's steps, and of all together.
type stepTimes struct {
	Total, Observe, Build, Render, Diff, Apply estimate
}

func scaleName(peers int) string { return fmt.Sprintf("one changed pod, %d peers", peers) }

// measureScale runs this program again for each size, inside a node.
func (b *bench) measureScale() (out []scaleResult) {
	for _, s := range scales {
		if !b.chosen(scaleName(s.peers)) {
			continue
		}
		b.progress("%s", scaleName(s.peers))
		self, err := os.Executable()
		if err != nil {
			b.Fatalf("%v", err)
		}
		node := netnstest.New(b)
		netnstest.Wire(node, "eth0", netnstest.New(b), "eth0")
		node.Address("eth0", peerAddress(0).String()+"/12")
		child := exec.Command(self, "-peers", strconv.Itoa(s.peers), "-families", string(s.families))
		var said bytes.Buffer
		child.Stdout, child.Stderr = &said, os.Stderr
		if err := netns.Do(node.Path, child.Run); err != nil {
			b.Fatalf("%s: %v", scaleName(s.peers), err)
		}
		var r scaleResult
		if err := json.Unmarshal(said.Bytes(), &r); err != nil {
			b.Fatalf("%s: %v in %s", scaleName(s.peers), err, said.String())
		}
		r.Goal, r.Families = float64(s.goal.Milliseconds()), s.families
		out = append(out, r)
	}
	return out
}

// A line is the agent's line on one node, from inputs to kernel.
type line struct {
	kernel   *kernel.Observer
	builder  *source.Builder
	renderer *feature.Renderer
	in       source.Inputs
	last     feature.Rendered                              // its state is what the kernel holds
	check    func([]world.Problem, datapath.Changes) error // of every turn, before anything is applied
}

// lineTimes are the milliseconds of one turn, by step.
type lineTimes struct{ total, observe, build, render, diff, apply float64 }

// turn takes the whole line once, as the agent does.
func (l *line) turn() (t lineTimes, err error) {
	began := time.Now()
	lap := began
	step := func(into *float64) {
		now := time.Now()
		*into = millisOf(now.Sub(lap))
		lap = now
	}
	if l.in.Kernel, err = l.kernel.Observe(l.in.Attachments); err != nil {
		return t, err
	}
	step(&t.observe)
	w, problems := l.builder.Build(l.in)
	step(&t.build)
	rendered := l.renderer.Render(w)
	step(&t.render)
	changes := datapath.DiffStates(l.last.State, rendered.State)
	step(&t.diff)
	if err := l.check(append(problems, rendered.Problems...), changes); err != nil {
		return t, err
	}
	lap = time.Now()
	if err := datapath.Apply(changes); err != nil {
		return t, err
	}
	step(&t.apply)
	l.last, l.in.Allocations = rendered, rendered.Allocations
	t.total = millisOf(time.Since(began))
	return t, nil
}

// aPodCameOrWent is what every turn here is about.
func aPodCameOrWent(problems []world.Problem, changes datapath.Changes) error {
	if len(problems) > 0 {
		return fmt.Errorf("unexpected problems: %v", problems[0])
	}
	if changes.Len() < leastChanges {
		return fmt.Errorf("a pod came or went, and all that changes is\n%s", changes)
	}
	return nil
}

func millisOf(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// scale is what the process of one size does, on the node that it is in. It
// prints its result as JSON.
func (b *bench) scale(peers int, f families) error {
	l := &line{kernel: &kernel.Observer{Capabilities: kernel.Probe()}, builder: source.NewBuilder(peerName(0), feature.Switches(all.Features)...), renderer: feature.NewRenderer(all.Features), check: aPodCameOrWent}
	ctx, stop := context.WithCancel(context.Background())
	watched := make(chan error, 1)
	go func() { watched <- l.kernel.Watch(ctx, func() {}) }()
	l.in.Objects = &source.Objects{}
	for i := range peers + 1 {
		l.in.Objects.Nodes = append(l.in.Objects.Nodes, cluster.Object(peerName(i), f.cidrs(i), peerAddress(i)))
	}
	pods := &world.Attachments{}
	for i := range scalePods {
		path := netnstest.New(b).Path
		pods.List = append(pods.List, &world.Attachment{Namespace: "default", Pod: fmt.Sprint("p", i), ContainerID: fmt.Sprintf("c%03d", i),
			Interface: "eth0", Netns: path, Inode: netns.Inode(path), Addresses: f.pod(i)})
	}
	others := &world.Attachments{List: slices.Delete(slices.Clone(pods.List), scalePods/2, scalePods/2+1)}
	r := scaleResult{Peers: peers}
	err := l.measure(&r, pods, others)
	stop()
	if err := errors.Join(err, <-watched); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

// measure fills in r: the first turn, then one pod going and coming, then what is
// held in memory.
func (l *line) measure(r *scaleResult, pods, others *world.Attachments) error {
	l.in.Attachments = pods
	first, err := l.turn()
	if err != nil {
		return err
	}
	r.Setup = first.total
	var adds, deletes []lineTimes
	for range scaleTimes {
		for _, c := range []struct {
			to   *world.Attachments
			into *[]lineTimes
		}{{others, &deletes}, {pods, &adds}} {
			l.in.Attachments = c.to
			t, err := l.turn()
			if err != nil {
				return err
			}
			*c.into = append(*c.into, t)
		}
	}
	r.Add, r.Delete = estimateSteps(adds), estimateSteps(deletes)
	var read []float64
	var found datapath.Kernel
	for range readTimes {
		began := time.Now()
		if found, err = datapath.Read(l.last.State); err != nil {
			return err
		}
		if c := datapath.Diff(found, l.last.State); !c.Empty() {
			return fmt.Errorf("the kernel holds something else:\n%s", c)
		}
		read = append(read, millisOf(time.Since(began)))
	}
	r.ReadBack = estimateOf(read)
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	r.Heap = m.HeapAlloc
	r.RSS, r.Peak, err = residentMemory()
	runtime.KeepAlive(l)
	runtime.KeepAlive(found)
	return err
}

func estimateSteps(turns []lineTimes) stepTimes {
	of := func(value func(lineTimes) float64) estimate {
		var values []float64
		for _, t := range turns {
			values = append(values, value(t))
		}
		return estimateOf(values)
	}
	return stepTimes{
		Total:   of(func(t lineTimes) float64 { return t.total }),
		Observe: of(func(t lineTimes) float64 { return t.observe }),
		Build:   of(func(t lineTimes) float64 { return t.build }),
		Render:  of(func(t lineTimes) float64 { return t.render }),
		Diff:    of(func(t lineTimes) float64 { return t.diff }),
		Apply:   of(func(t lineTimes) float64 { return t.apply }),
	}
}

// residentMemory is VmRSS and VmHWM of proc(5), in bytes.
func residentMemory() (now, peak uint64, err error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, 0, err
	}
	value := func(name string) (n uint64) {
		_, rest, _ := strings.Cut(string(status), "\n"+name+":")
		_, err = fmt.Sscanf(rest, "%d kB", &n)
		return n << 10
	}
	now = value("VmRSS")
	if err == nil {
		peak = value("VmHWM")
	}
	return now, peak, err
}

func peerName(i int) string { return fmt.Sprintf("n%06d", i) }

// peerAddress is the address of node i in 172.16.0.0/12, which its uplink has.
func peerAddress(i int) netip.Addr {
	i++
	return netip.AddrFrom4([4]byte{172, byte(16 + i>>16), byte(i >> 8), byte(i)})
}

// cidrs are those of the pods of node i: an IPv4 /26 of 10.0.0.0/8, but for this
// node a /24 elsewhere, and an IPv6 /64.
func (f families) cidrs(i int) []string {
	four, six := fmt.Sprintf("10.%d.%d.%d/26", i>>10, i>>2&0xff, i<<6&0xff), fmt.Sprintf("fd00:10:%x:%x::/64", i>>16, i&0xffff)
	if i == 0 {
		four = "192.168.1.0/24"
	}
	if f == onlyIPv6 {
		return []string{six}
	}
	return []string{four, six}
}

// pod is the addresses of pod i of this node.
func (f families) pod(i int) []netip.Addr {
	four, six := netip.AddrFrom4([4]byte{192, 168, 1, byte(i + 2)}), netip.MustParseAddr(fmt.Sprintf("fd00:10::%x", i+2))
	if f == onlyIPv6 {
		return []netip.Addr{six}
	}
	return []netip.Addr{four, six}
}

func printScale(w io.Writer, results []scaleResult) error {
	fmt.Fprintf(w, "\nOne changed pod of %d on a node, and the other nodes of the cluster: medians in ms of %d times\n", scalePods, scaleTimes)
	t := newTable(w)
	t.line("peers", "pods have", "pod", "all", "95 %", "goal", "observe", "build", "render", "diff", "apply")
	for _, r := range results {
		for _, s := range []struct {
			name string
			stepTimes
		}{{"added", r.Add}, {"deleted", r.Delete}} {
			goal := ""
			if r.Goal > 0 {
				goal = fmt.Sprintf("%v: %s", r.Goal, verdict(s.Total.Low <= r.Goal))
			}
			t.line(fmt.Sprint(r.Peers), string(r.Families), s.name, ms(s.Total.Median), interval(s.Total), goal, ms(s.Observe.Median), ms(s.Build.Median), ms(s.Render.Median), ms(s.Diff.Median), ms(s.Apply.Median))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nThe same process: everything into an empty kernel, everything read back and compared, and its memory")
	t = newTable(w)
	t.line("peers", "first time", "read back", "live heap", "RSS", "peak RSS")
	mib := func(n uint64) string { return fmt.Sprintf("%d MiB", n>>20) }
	for _, r := range results {
		t.line(fmt.Sprint(r.Peers), fmt.Sprintf("%.1f s", r.Setup/1000), millis(r.ReadBack.Median), mib(r.Heap), mib(r.RSS), mib(r.Peak))
	}
	return t.Flush()
}
