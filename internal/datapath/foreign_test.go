package datapath_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/link"
	"fairlead.dev/fairlead/internal/datapath/route"
	"fairlead.dev/fairlead/internal/netnstest"
)

// direct is a node without overlay: a peer's pods are reached by the peer's own
// address.
func direct() datapath.State {
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	return datapath.State{{Routes: []route.Route{
		{Dst: prefix("10.244.1.0/24")},
		{Dst: prefix("10.244.2.0/24"), Via: addr("192.168.100.2"), Link: "eth0"},
		{Dst: prefix("fd00:2::/64"), Via: addr("fd00:100::2"), Link: "eth0"},
		{Dst: prefix("10.244.3.0/24"), Via: addr("172.16.0.1"), Link: "eth0", OnLink: true},
	}}}
}

// newUplink makes a node with a link that is not ours.
func newUplink(t *testing.T) *netnstest.Host {
	t.Helper()
	node, far := netnstest.New(t), netnstest.New(t)
	netnstest.Wire(node, "eth0", far, "eth0")
	plug(node)
	return node
}

func plug(node *netnstest.Host) { node.Address("eth0", "192.168.100.1/24", "fd00:100::1/64") }

func TestRoutesThroughOthersLinks(t *testing.T) {
	t.Parallel()
	for _, accident := range []string{
		"", "ip route del 10.244.2.0/24", "ip -6 route del fd00:2::/64",
		"ip route replace 10.244.2.0/24 via 192.168.100.9 dev eth0 proto 157",
		"ip -6 route replace fd00:2::/64 via fd00:100::9 dev eth0 proto 157",
		"ip route replace 10.244.2.0/24 via 192.168.100.2 dev eth0 onlink proto 157",
		"ip route replace 10.244.2.0/24 dev lo proto 157",
		"ip route add 10.244.9.0/24 via 192.168.100.9 dev eth0 proto 157",
	} {
		t.Run(accident, func(t *testing.T) {
			t.Parallel()
			node := newUplink(t)
			run(t, node, "ip route add 10.9.0.0/16 via 192.168.100.9 dev eth0")
			bare := listing(t, node)
			apply(node, direct())
			before := listing(t, node)
			if accident != "" {
				run(t, node, accident)
				if diff(node, direct()).Empty() {
					t.Error("not found")
				}
			}
			apply(node, direct())
			if left := diff(node, direct()); !left.Empty() {
				t.Errorf("still to do:\n%s", left)
			}
			if after := listing(t, node); !slices.Equal(before, after) {
				t.Errorf("before\n%s\nafter\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
			}
			apply(node, nil)
			if after := listing(t, node); !slices.Equal(bare, after) {
				t.Errorf("bare\n%s\nafter all\n%s", strings.Join(bare, "\n"), strings.Join(after, "\n"))
			}
		})
	}
}

func TestTheTextOfRoutesThroughOthersLinks(t *testing.T) {
	byText, byNetlink := newUplink(t), newUplink(t)
	for command := range strings.Lines(direct().IP()) {
		run(t, byText, command)
	}
	apply(byNetlink, direct())
	if want, got := listing(t, byText), listing(t, byNetlink); !slices.Equal(want, got) {
		t.Errorf("text\n%s\nnetlink\n%s", strings.Join(want, "\n"), strings.Join(got, "\n"))
	}
	if c := diff(byText, direct()); !c.Empty() {
		t.Errorf("what ip(8) made is not recognised:\n%s", c)
	}
}

// Without the link its routes cannot be. Everything else can.
func TestOthersLinksComeAndGo(t *testing.T) {
	t.Parallel()
	for how, away := range map[string]string{"down": "ip link set eth0 down", "gone": "ip link del eth0"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			node, pod := newUplink(t), netnstest.New(t)
			want := append(wholeNode(pod.Path), &datapath.Part{Routes: direct()[0].Routes[1:2]})
			apply(node, want)
			before := listing(t, node)
			for _, command := range []string{away, "ip neigh del 10.244.2.1 dev fl-vxlan", "ip route del 10.244.1.2/32"} {
				run(t, node, command)
			}
			failures := applyFailing(node, want)
			if len(failures) != 1 || failures[0].Kind != datapath.KindRoute || failures[0].Link != "eth0" {
				t.Errorf("failures %v", failures)
			}
			left := diff(node, want)
			if left.String() != "ip route replace 10.244.2.0/24 via 192.168.100.2 dev eth0 proto 157\n" {
				t.Errorf("left to do:\n%s", left)
			}
			if how == "gone" {
				netnstest.Wire(node, "eth0", netnstest.New(t), "eth0")
			} else {
				run(t, node, "ip link set eth0 up")
				run(t, node, "ip address flush dev eth0")
			}
			plug(node)
			apply(node, want)
			if after := listing(t, node); !slices.Equal(before, after) {
				t.Errorf("before\n%s\nafter\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
			}
		})
	}
}

// applyFailing applies want and returns what the kernel refused.
func applyFailing(h *netnstest.Host, want datapath.State) datapath.Failures {
	var failures datapath.Failures
	c := diff(h, want)
	h.Do(func() error {
		errors.As(datapath.Apply(c), &failures)
		return nil
	})
	return failures
}

// Whom a failure concerns follows from its kind and link. What hangs on a link
// that could not be made is no failure of its own.
func TestAFailureSaysWhatItWasAbout(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(*datapath.Part)
		kind  datapath.Kind
		link  string
	}{
		"rules":        {func(p *datapath.Part) { p.Tables[0].Chains[0].Hook = "nowhere" }, datapath.KindRules, ""},
		"link":         {func(p *datapath.Part) { p.Links[0].MTU = 1 << 20 }, datapath.KindLink, "fl-0123456789ab"},
		"setting":      {func(p *datapath.Part) { p.Settings[0].Key = "net/ipv4/none" }, datapath.KindSetting, ""},
		"neighbour":    {func(p *datapath.Part) { p.Neighbours[0].Link = "gone" }, datapath.KindNeighbour, "gone"},
		"forwarding":   {func(p *datapath.Part) { p.Neighbours[2].Link = "gone" }, datapath.KindForwarding, "gone"},
		"route":        {func(p *datapath.Part) { p.Routes[4].Link = "gone" }, datapath.KindRoute, "gone"},
		"routing rule": {func(p *datapath.Part) { p.Rules = append(p.Rules, p.Rules[0]) }, datapath.KindRoutingRule, ""},
		"unreachable":  {func(p *datapath.Part) { p.Routes[0].Dst = netip.MustParsePrefix("192.168.100.0/24") }, datapath.KindRoute, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := wholeNode(netnstest.New(t).Path)
			c.spoil(want[0])
			failures := applyFailing(newUplink(t), want)
			if len(failures) != 1 || failures[0].Kind != c.kind || failures[0].Link != c.link {
				t.Errorf("%+v, want one of %s on %q", failures, c.kind, c.link)
			}
		})
	}
}

// What hangs on a link that is made anew comes back with it, also where another
// feature put it there.
func TestALinkMadeAnewKeepsWhatOthersHungOnIt(t *testing.T) {
	t.Parallel()
	node, pod := netnstest.New(t), netnstest.New(t)
	whole := wholeNode(pod.Path)[0]
	other := &datapath.Part{Neighbours: whole.Neighbours[3:], Routes: whole.Routes[4:]}
	before := *whole
	before.Neighbours, before.Routes = whole.Neighbours[:3], whole.Routes[:4]
	after := before
	vni := *whole.Links[1]
	vni.VXLAN = &link.VXLAN{VNI: 2, Port: 4789, Local: vni.VXLAN.Local}
	after.Links = append([]*link.Link{whole.Links[0], &vni}, whole.Links[2:]...)
	apply(node, datapath.State{&before, other})
	want := datapath.State{&after, other}
	node.Do(func() error { return datapath.Apply(datapath.DiffStates(datapath.State{&before, other}, want)) })
	if left := diff(node, want); !left.Empty() {
		t.Errorf("still to do:\n%s", left)
	}
}
