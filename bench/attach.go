package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"

	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
)

// What a container runtime waits for when it attaches a pod by the CNI plugin
// and takes it off again, the plugin's process included.
const (
	attachPods    = 100 // on one node: one after the other, then all at once
	attachTimes   = 2   // how often
	attachMedian  = 30 * time.Millisecond
	attachSlowest = 150 * time.Millisecond // of a hundred, the slowest but one
	attachAllIn   = 5 * time.Second
)

// An attachResult is what attaching pods took, in milliseconds.
type attachResult struct {
	Name   string    `json:"name"`
	Add    []float64 `json:"addMillis"` // one at a time, sorted
	Del    []float64 `json:"delMillis"`
	AddAll []float64 `json:"addAllMillis"` // a hundred at once, sorted
	DelAll []float64 `json:"delAllMillis"`
	Goals  bool      `json:"goals"` // whether this one has goals
}

// A site is a node on which pods are attached.
type site struct {
	name string
	node *netnstest.Host
	pods *podNetwork
	ours string // how the names of the node's ends of wires begin
}

// measureAttach measures Fairlead's agent and plugin, and the plugins of
// Flannel's arrangement for information.
func (b *bench) measureAttach() (out []attachResult) {
	for _, s := range []struct {
		name  string
		make  func(*bench) *site
		goals bool
	}{{"attach pods, Fairlead", agentSite, true}, {"attach pods, Flannel's", flannelSite, false}} {
		if b.chosen(s.name) {
			b.progress("%s", s.name)
			r := b.attach(s.make(b))
			r.Name, r.Goals = s.name, s.goals
			out = append(out, r)
		}
	}
	return out
}

func (b *bench) attach(s *site) attachResult {
	var r attachResult
	pods := make([]*netnstest.Host, attachPods)
	for i := range pods {
		pods[i] = netnstest.New(b)
	}
	first := func() error { _, err := s.add("first", netnstest.New(b).Path); return err }
	for end := time.Now().Add(10 * time.Second); ; { // until the agent is there
		err := first()
		if err == nil {
			break
		}
		if time.Now().After(end) {
			b.Fatalf("%s: %v", s.name, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	one := func(do func(i int) error) (millis []float64) {
		for i := range pods {
			millis = append(millis, b.time(func() error { return do(i) }))
		}
		return millis
	}
	all := func(do func(i int) error) []float64 {
		return []float64{b.time(func() error {
			errs := make([]error, len(pods))
			var wg sync.WaitGroup
			for i := range pods {
				wg.Go(func() { errs[i] = do(i) })
			}
			wg.Wait()
			return errors.Join(errs...)
		})}
	}
	addresses := make([][]netip.Addr, len(pods))
	add := func(i int) (err error) { addresses[i], err = s.add(fmt.Sprint("pod", i), pods[i].Path); return err }
	del := func(i int) error { return s.del(fmt.Sprint("pod", i), pods[i].Path) }
	for range attachTimes {
		r.Add = append(r.Add, one(add)...)
		s.check(b, pods, addresses)
		r.Del = append(r.Del, one(del)...)
		s.checkGone(b)
		r.AddAll = append(r.AddAll, all(add)...)
		s.check(b, pods, addresses)
		r.DelAll = append(r.DelAll, all(del)...)
		s.checkGone(b)
	}
	for _, millis := range [][]float64{r.Add, r.Del, r.AddAll, r.DelAll} {
		slices.Sort(millis)
	}
	return r
}

// time returns how many milliseconds do took, and ends the run if it fails.
func (b *bench) time(do func() error) float64 {
	began := time.Now()
	if err := do(); err != nil {
		b.Fatalf("%v", err)
	}
	return float64(time.Since(began).Microseconds()) / 1000
}

func (s *site) add(container, pod string) (addresses []netip.Addr, err error) {
	err = netns.Do(s.node.Path, func() (err error) { addresses, err = s.pods.add(container, pod); return err })
	return addresses, err
}

func (s *site) del(container, pod string) error {
	return netns.Do(s.node.Path, func() error { return s.pods.del(container, pod) })
}

// check ends the run unless every pod has addresses of its own on its eth0.
func (s *site) check(b *bench, pods []*netnstest.Host, addresses [][]netip.Addr) {
	owner := map[netip.Addr]int{}
	for i, p := range pods {
		for _, a := range addresses[i] {
			if o, taken := owner[a]; taken {
				b.Fatalf("%s: pods %d and %d have %s", s.name, o, i, a)
			}
			owner[a] = i
		}
		p.Do(func() error {
			l, err := netlink.LinkByName("eth0")
			if err != nil {
				return err
			}
			there, err := netlink.AddrList(l, netlink.FAMILY_ALL)
			if err != nil {
				return err
			}
			for _, a := range addresses[i] {
				if !slices.ContainsFunc(there, func(t netlink.Addr) bool { return t.IP.Equal(a.AsSlice()) }) {
					return fmt.Errorf("pod %d was told that it has %s and has %v", i, a, there)
				}
			}
			return nil
		})
	}
	if len(owner) != len(pods)*len(flannelFamilies) {
		b.Fatalf("%s: %d addresses for %d pods", s.name, len(owner), len(pods))
	}
}

// checkGone ends the run unless only the first pod's wire is left.
func (s *site) checkGone(b *bench) {
	var wires []string
	s.node.Do(func() error {
		links, err := netlink.LinkList()
		for _, l := range links {
			if l.Type() == "veth" && strings.HasPrefix(l.Attrs().Name, s.ours) {
				wires = append(wires, l.Attrs().Name)
			}
		}
		return err
	})
	if len(wires) != 1 {
		b.Fatalf("%s: of all wires one should be left, and there are %v", s.name, wires)
	}
}

// agentSite is a node with an agent.
func agentSite(b *bench) *site {
	s := &site{name: "Fairlead", node: netnstest.New(b), ours: "fl-"}
	netnstest.Wire(s.node, "eth0", netnstest.New(b), "eth0")
	s.node.Address("eth0", outers(0)[0].String()+"/24", outers(0)[1].String()+"/64")
	objects, state := b.dir("objects"), b.dir("state")
	var manifests strings.Builder
	for n := range 2 {
		fmt.Fprintf(&manifests, "---\napiVersion: v1\nkind: Node\nmetadata: {name: n%d}\nspec: {podCIDRs: [%q, %q]}\nstatus: {addresses: [{type: InternalIP, address: %q}]}\n",
			n, subnet(n, 0), subnet(n, 1), outers(n)[0])
	}
	if err := os.WriteFile(filepath.Join(objects, "nodes.yaml"), []byte(manifests.String()), 0o600); err != nil {
		b.Fatalf("%v", err)
	}
	socket := filepath.Join(state, "agent.sock")
	agent := exec.Command(b.fairlead(), "agent", "--node", "n0", "--objects", objects, "--state-dir", state,
		"--socket", socket, "--metrics-address", "", "--log-level", "error")
	agent.Stderr = os.Stderr
	s.node.Start(agent)
	s.pods = newPodNetwork(b, filepath.Dir(b.fairlead()),
		fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "fairlead", "plugins": [{"type": "fairlead", "socket": %q, "stateDir": %q}]}`, socket, state))
	return s
}

func flannelSite(b *bench) *site {
	n := newFlannelNode(b, 0)
	return &site{"Flannel's", n.Host, n.pods, "veth"}
}

func printAttach(w io.Writer, results []attachResult) error {
	fmt.Fprintf(w, "\nCNI: %d times ADD and DEL one at a time, and %d times %d at once\n", len(results[0].Add), attachTimes, attachPods)
	t := newTable(w)
	t.line("", "ADD p50", fmt.Sprintf("goal %s", attachMedian), "p99", fmt.Sprintf("goal %s", attachSlowest), "DEL p50", "p99",
		fmt.Sprintf("%d ADD, slowest", attachPods), fmt.Sprintf("goal %s", attachAllIn), fmt.Sprintf("%d DEL, slowest", attachPods))
	for _, r := range results {
		within := func(millis float64, goal time.Duration) string {
			if !r.Goals {
				return ""
			}
			return verdict(millis <= float64(goal.Milliseconds()))
		}
		last := attachTimes - 1
		t.line(r.Name, millis(quantile(r.Add, 0.5)), within(quantile(r.Add, 0.5), attachMedian),
			millis(quantile(r.Add, 0.99)), within(quantile(r.Add, 0.99), attachSlowest),
			millis(quantile(r.Del, 0.5)), millis(quantile(r.Del, 0.99)),
			millis(r.AddAll[last]), within(r.AddAll[last], attachAllIn), millis(r.DelAll[last]))
	}
	return t.Flush()
}

func millis(m float64) string { return fmt.Sprintf("%.1f ms", m) }
