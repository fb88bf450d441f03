package snat

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/world"
)

// aWorld is a node with pods 1 to n and blocks of the given size.
func aWorld(size, n int) *world.World {
	address := netip.MustParsePrefix("192.0.2.1/24")
	w := &world.World{
		Node:  &world.Node{Name: "n1", Addresses: []netip.Addr{address.Addr()}, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}},
		Peers: &world.Peers{}, Attachments: &world.Attachments{}, Allocations: &world.Parts{},
		Config: &world.Config{Overlay: world.Overlay{Mode: world.VXLAN}, NodeSNAT: world.SNAT{Block: size}},
		Kernel: &world.Kernel{LocalPorts: world.PortRange{Low: 32768, High: 65535}, Interfaces: []world.Interface{
			{Name: "eth0", Addresses: []netip.Prefix{address}},
		}},
	}
	for i := range n {
		w.Attachments.List = append(w.Attachments.List, aPod(i+1))
	}
	return w
}

func aPod(i int) *world.Attachment {
	return &world.Attachment{Namespace: "default", Pod: fmt.Sprintf("p%d", i), ContainerID: fmt.Sprintf("c%d", i), Interface: "eth0",
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 244, 1, byte(i)})}}
}

// A turn is the world after the last one's allocations, and what it leads to.
func turn(w *world.World) (datapath.State, *world.World) {
	r := new(renderer).render(w)
	next := *w
	next.Allocations = w.Allocations.With(r.Allocations)
	return datapath.State{&r.Part}, &next
}

// One pod more or less costs one element, also when it takes another's place.
func TestAPodIsAnElement(t *testing.T) {
	held, w := turn(aWorld(8192, 3))
	for _, step := range []struct {
		pods []*world.Attachment
		want string
	}{
		{[]*world.Attachment{aPod(1), aPod(2), aPod(3), aPod(4)}, "nft add element inet fairlead-snat blocks4 { 10.244.1.4 : 192.0.2.1 . 57344-65535 }\n"},
		{[]*world.Attachment{aPod(1), aPod(3), aPod(4)}, "nft delete element inet fairlead-snat blocks4 { 10.244.1.2 : 192.0.2.1 . 40960-49151 }\n"},
		{[]*world.Attachment{aPod(1), aPod(3), aPod(4), aPod(5)}, "nft add element inet fairlead-snat blocks4 { 10.244.1.5 : 192.0.2.1 . 40960-49151 }\n"},
	} {
		w.Attachments = &world.Attachments{List: step.pods}
		var state datapath.State
		state, w = turn(w)
		if d := cmp.Diff(step.want, datapath.DiffStates(held, state).String()); d != "" {
			t.Errorf("%d pods (-want +got):\n%s", len(step.pods), d)
		}
		held = state
	}
}

// While all pods share the range, none of them is looked at, and of the kernel
// only the ports are.
func TestPodsAreReadForBlocksOnly(t *testing.T) {
	for size, read := range map[int]bool{0: false, 512: true, 40000: false} {
		before := aWorld(size, 2)
		_, before = turn(before)
		after := *before
		k := *before.Kernel
		after.Kernel = &k
		k.Seen = []string{"a@eth0"}
		render := Feature.Render()
		last := render(before)
		if render(&after) != last {
			t.Errorf("blocks of %d: another namespace is seen, and that is read", size)
		}
		after.Attachments = &world.Attachments{List: append([]*world.Attachment{aPod(7)}, before.Attachments.List...)}
		if (render(&after) != last) != read {
			t.Errorf("blocks of %d: another pod is there, and that is read: %v, want %v", size, !read, read)
		}
		last = render(&after)
		k.LocalPorts.Low++
		if render(&after) == last {
			t.Errorf("blocks of %d: another range, and that is not read", size)
		}
	}
}

// The address that pods get is that of the way out: of the default route, by its
// interface only, or the node's own.
func TestTheWayOut(t *testing.T) {
	prefix := netip.MustParsePrefix
	for name, tt := range map[string]struct {
		interfaces []world.Interface
		exits      []world.Exit
		want       way
	}{
		"no address":    {[]world.Interface{{Name: "eth0"}}, nil, way{}},
		"the node's":    {[]world.Interface{{Name: "eth0", Addresses: []netip.Prefix{prefix("192.0.2.1/24")}}}, nil, way{Address: netip.MustParseAddr("192.0.2.1"), Interface: "eth0"}},
		"default route": {[]world.Interface{{Name: "eth0", Addresses: []netip.Prefix{prefix("192.0.2.1/24")}}, {Name: "eth1", Addresses: []netip.Prefix{prefix("198.51.100.1/24")}}}, []world.Exit{{Interface: "eth1", Address: netip.MustParseAddr("198.51.100.1")}}, way{Address: netip.MustParseAddr("198.51.100.1"), Interface: "eth1"}},
		"loopback":      {[]world.Interface{{Name: "eth0"}, {Name: "lo", Addresses: []netip.Prefix{prefix("192.0.2.1/32")}}}, []world.Exit{{Interface: "eth0", Address: netip.MustParseAddr("192.0.2.1")}}, way{Address: netip.MustParseAddr("192.0.2.1"), Interface: ""}},
		"the node's on the loopback": {[]world.Interface{{Name: "lo", Addresses: []netip.Prefix{prefix("192.0.2.1/32")}}}, nil,
			way{Address: netip.MustParseAddr("192.0.2.1"), Interface: ""}},
		"of the other family": {[]world.Interface{{Name: "eth0", Addresses: []netip.Prefix{prefix("2001:db8::1/64")}}}, []world.Exit{{Interface: "eth0", Address: netip.MustParseAddr("2001:db8::1")}}, way{}},
	} {
		w := aWorld(512, 1)
		w.Kernel = &world.Kernel{LocalPorts: w.Kernel.LocalPorts, Interfaces: tt.interfaces, Exits: tt.exits}
		if got := wayOut(w, 4); got != tt.want {
			t.Errorf("%s: %+v, want %+v", name, got, tt.want)
		}
	}
}

// Blocks that are asked for and do not fit are told once, and nowhere are they
// said not to be asked for.
func TestBlocksThatDoNotFitAreNotCalledNone(t *testing.T) {
	s := doctor.Subject{World: aWorld(40000, 1)}
	if found := portBlocks.Read(s); len(found) != 0 {
		t.Errorf("%s finds %+v", portBlocks.ID, found)
	}
	if found := portRanges.Read(s); len(found) != 1 || found[0].Status != doctor.Warn {
		t.Errorf("%s finds %+v", portRanges.ID, found)
	}
}
