package feature_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/feature/all"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/source/kernel"
	"fairlead.dev/fairlead/internal/world"
)

// A line is the part of an agent that remembers: builder and renderer.
type line struct {
	builder  *source.Builder
	renderer *feature.Renderer
}

func newLine() line {
	return line{source.NewBuilder("n1", feature.Switches(all.Features)...), feature.NewRenderer(all.Features)}
}

func (l line) run(in source.Inputs) (*world.World, feature.Rendered) {
	w, problems := l.builder.Build(in)
	if w.Node == nil {
		return w, feature.Rendered{Problems: problems, Allocations: w.Allocations}
	}
	r := l.renderer.Render(w)
	r.Problems = append(problems, r.Problems...)
	return w, r
}

// A kernel that only ever got differences holds what one that got everything
// would.
func TestDifferencesAddUp(t *testing.T) {
	t.Parallel()
	host := historicalHost(t)
	var netns []string
	for range 3 {
		netns = append(netns, netnstest.New(t).Path)
	}
	h := newHistory(2, netns)
	warm := newLine()
	var held datapath.State
	for i := range 150 {
		h.step()
		host.Do(func() (err error) {
			h.in.TCP, err = (&kernel.Observer{}).ObserveTCP(h.in.Kernel, h.in.Attachments)
			return err
		})
		w, r := warm.run(h.in)
		if w.Node == nil {
			continue
		}
		h.in.Allocations = r.Allocations
		changes := datapath.DiffStates(held, r.State)
		if held.Frees(r.State) { // what was kept is in no state
			changes = diff(host, r.State)
		}
		host.Do(func() error { return datapath.Apply(changes) })
		held = r.State
		if left := diff(host, held); !left.Empty() {
			t.Fatalf("step %d: after\n%sstill to do:\n%s", i, changes, left)
		}
	}
}

// historicalHost has the interfaces of every history's kernel.
func historicalHost(t *testing.T) *netnstest.Host {
	t.Helper()
	host, far := netnstest.New(t), netnstest.New(t)
	netnstest.Wire(host, "eth0", far, "eth0")
	netnstest.Wire(host, "eth1", far, "eth1")
	host.Address("eth0", "192.168.100.1/24")
	host.Address("eth1", "10.9.0.1/24", "10.9.1.1/24", "fd00:100::1/64")
	return host
}

func diff(h *netnstest.Host, want datapath.State) datapath.Changes {
	var c datapath.Changes
	h.Do(func() error {
		have, err := datapath.Read(want)
		c = datapath.Diff(have, want)
		return err
	})
	return c
}

// One change in the cluster costs what it changes in the kernel, no more.
func TestChangesAreMinimal(t *testing.T) {
	t.Parallel()
	randomize, ports := true, "40000-49999"
	for name, tt := range map[string]struct {
		change func(*source.Objects)
		want   string
	}{
		"nothing": {func(*source.Objects) {}, ""},
		"a new peer": {
			func(o *source.Objects) { o.Nodes = append(o.Nodes, node("n3", "192.168.100.3", "10.244.3.0/24")) },
			`gate dev eth0 egress add 10.244.3.0/24 192.168.100.3
nft add element inet fairlead-guard peers4 { 192.168.100.3 }
nft add element inet fairlead-snat inside4 { 10.244.3.0/24, 192.168.100.3 }
gate dev fl-vxlan add 10.244.3.0/24 192.168.100.3
bridge fdb replace MAC dev fl-vxlan dst 192.168.100.3 self permanent
ip neigh replace 10.244.3.1 lladdr MAC dev fl-vxlan nud permanent
ip neigh replace 192.168.100.3 lladdr MAC dev fl-vxlan nud permanent
ip route replace 10.244.3.0/24 via 10.244.3.1 dev fl-vxlan onlink proto 157
ip route replace 192.168.100.3/32 dev fl-vxlan table 157157 proto 157
`,
		},
		"a peer less": {
			func(o *source.Objects) { o.Nodes = o.Nodes[:1] },
			`nft delete element inet fairlead-guard peers4 { 192.168.100.2 }
nft delete element inet fairlead-snat inside4 { 10.244.2.0/24, 192.168.100.2 }
gate dev fl-vxlan delete 10.244.2.0/24 192.168.100.2
gate dev eth0 egress delete 10.244.2.0/24 192.168.100.2
ip rule del priority 157 from 10.244.1.0/24 fwmark 0x0/0xf000000 lookup 157157 protocol 157
ip route del 10.244.2.0/24 via 10.244.2.1 dev fl-vxlan onlink proto 157
ip route del 192.168.100.2/32 dev fl-vxlan table 157157 proto 157
bridge fdb del MAC dev fl-vxlan self
ip neigh del 10.244.2.1 dev fl-vxlan
ip neigh del 192.168.100.2 dev fl-vxlan
`,
		},
		"another range, at random": {
			func(o *source.Objects) {
				c := &v1alpha1.AgentConfig{Spec: v1alpha1.AgentConfigSpec{NodeSNATRandomizePorts: &randomize, NodeSNATPortRange: &ports}}
				c.Name = v1alpha1.DefaultConfig
				o.Configs = []*v1alpha1.AgentConfig{c}
			},
			`nft flush chain inet fairlead-snat outside
nft add rule inet fairlead-snat outside meta l4proto 6 masquerade to :40000-49999 fully-random
nft add rule inet fairlead-snat outside meta l4proto 17 masquerade to :40000-49999 fully-random
nft add rule inet fairlead-snat outside meta l4proto 132 masquerade to :40000-49999 fully-random
nft add rule inet fairlead-snat outside meta l4proto 1 masquerade to :40000-49999 fully-random
nft add rule inet fairlead-snat outside meta l4proto 58 masquerade to :40000-49999 fully-random
nft add rule inet fairlead-snat outside masquerade
`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changes(t, tt.change, tt.want)
		})
	}
}

// changes checks what a change of the objects does to what was rendered before, and
// to a kernel that holds that.
func changes(t *testing.T, change func(*source.Objects), want string) {
	t.Helper()
	in := newHistory(1, nil).in
	in.Kernel = source.PlainKernel(&world.Node{Addresses: []netip.Addr{netip.MustParseAddr("192.168.100.1")}})
	in.Objects = &source.Objects{Nodes: []*corev1.Node{in.Objects.Nodes[0], node("n2", "192.168.100.2", "10.244.2.0/24")}}
	l := newLine()
	_, before := l.run(in)
	after := *in.Objects
	change(&after)
	in.Objects = &after
	_, now := l.run(in)
	if d := cmp.Diff(want, withoutMAC(datapath.DiffStates(before.State, now.State))); d != "" {
		t.Errorf("from what was rendered (-want +got):\n%s", d)
	}
	host := historicalHost(t)
	host.Do(func() error { return datapath.Apply(datapath.DiffStates(nil, before.State)) })
	if d := cmp.Diff(sorted(want), sorted(withoutMAC(diff(host, now.State)))); d != "" {
		t.Errorf("from what the kernel has (-want +got):\n%s", d)
	}
}

// sorted is text by lines: the kernel lists things in an order of its own.
func sorted(text string) []string { return slices.Sorted(strings.Lines(text)) }

// withoutMAC is the changes with every hardware address as MAC.
func withoutMAC(c datapath.Changes) string {
	words := strings.SplitAfter(c.String(), " ")
	for i, w := range words {
		if strings.Count(w, ":") == 5 {
			words[i] = "MAC "
		}
	}
	return strings.Join(words, "")
}
