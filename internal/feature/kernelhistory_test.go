package feature_test

import (
	"fmt"
	"net/netip"
	"slices"

	"fairlead.dev/fairlead/internal/feature/snat"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/world"
)

// oneIn reports true once in n times.
func (h *history) oneIn(n int) bool { return h.random.IntN(n) == 0 }

func pick[T any](h *history, of ...T) T { return of[h.random.IntN(len(of))] }

// kernel is what a node's kernel may show.
func (h *history) kernel() *world.Kernel {
	k := source.PlainKernel(&world.Node{Addresses: []netip.Addr{netip.MustParseAddr("192.168.100.1")}})
	for i := range h.netns {
		key := fmt.Sprint(i) + "@eth0"
		if h.oneIn(6) {
			k.Unseen = append(k.Unseen, world.Unseen{Attachment: key, Reason: pick(h, "busy", "not readable")})
			k.Blind = []string{pick(h, "/run/netns", "/proc/7/ns")}
			continue
		}
		k.Seen = append(k.Seen, key)
	}
	slices.Sort(k.Seen)
	k.Interfaces = append(k.Interfaces, world.Interface{Name: "eth1", MTU: 1500, Addresses: []netip.Prefix{
		netip.MustParsePrefix("10.9.0.1/24"), netip.MustParsePrefix("10.9.1.1/24"), netip.MustParsePrefix("fd00:100::1/64"),
	}})
	for i := range k.Interfaces {
		of := &k.Interfaces[i]
		if h.oneIn(3) {
			of.MTU = 9000
		}
		of.Down, of.Hardware, of.Port, of.Advertised = h.oneIn(5), h.oneIn(3), h.oneIn(8), h.oneIn(4)
	}
	if h.oneIn(3) {
		k.Interfaces[1].Fleeting = []netip.Addr{netip.MustParseAddr(pick(h, "10.9.0.1", "fd00:100::1"))}
	}
	h.ways(k)
	if h.oneIn(3) {
		k.Resolvers = []netip.Addr{netip.MustParseAddr(fmt.Sprintf("10.244.%d.53", h.random.IntN(8)))}
	}
	k.LocalPorts = world.PortRange{Low: pick[uint16](h, 32768, 32768, 1024), High: pick[uint16](h, 60999, 60999, 50000)}
	if h.oneIn(3) {
		k.ReservedPorts = []world.PortRange{{Low: pick[uint16](h, 33000, 40000), High: pick[uint16](h, 40000, 45000)}}
	}
	if h.oneIn(3) {
		k.ForwardDrops = []world.ForwardDrop{{Filter: world.Filter{Family: pick(h, "ip", "ip6"), Table: pick(h, "filter", "other"), Chain: pick(h, "FORWARD", "forward"), Legacy: h.oneIn(2)},
			IPv6: h.oneIn(2), By: pick(h, "its policy", "a rule"), Way: pick(h, world.BetweenPods, world.FromPods), Accepting: h.oneIn(2)}}
	}
	if h.oneIn(3) {
		k.AcceptRA = map[string]string{pick(h, "eth0", "eth1"): pick(h, "0", "1", "2")}
	}
	k.Router, k.Strict = h.oneIn(2), h.oneIn(2)
	k.Capabilities.FullyRandomPorts = h.capability(4)
	k.Capabilities.TCX = h.capability(4)
	k.Capabilities.TCXEgress = h.capability(3)
	return k
}

func (h *history) capability(oneIn int) world.Capability {
	if h.oneIn(oneIn) {
		return world.Capability{Reason: pick(h, "refused", "not known")}
	}
	return world.Capability{OK: true}
}

// ways are those by which the node's packets leave.
func (h *history) ways(k *world.Kernel) {
	by := map[string]string{"192.168.100.1": "eth0", "10.9.0.1": "eth1", "fd00:100::1": "eth1"}
	for _, own := range [][]string{{"192.168.100.1", "10.9.0.1"}, {"fd00:100::1"}} {
		a := pick(h, own...)
		if h.oneIn(2) {
			k.Exits = append(k.Exits, world.Exit{Interface: by[a], Address: netip.MustParseAddr(a), MTU: pick(h, 0, 1400, 1500),
				Gateway: pick(h, netip.Addr{}, netip.MustParseAddr("192.168.100.7"))})
		}
		if h.oneIn(2) {
			k.Uplinks = append(k.Uplinks, world.Uplink{Interface: by[a], Address: netip.MustParseAddr(a), Said: h.oneIn(2)})
		}
	}
	if h.oneIn(3) {
		k.SourceRules = []world.SourceRule{{Priority: pick[uint32](h, 100, 200), From: netip.MustParsePrefix(pick(h, "10.9.0.1/32", "10.9.1.1/32")),
			To: pick(h, netip.Prefix{}, netip.MustParsePrefix("203.0.113.0/24")), Table: pick[uint32](h, 7, 8)}}
	}
}

// underlay is how packets to peers leave; nil: nobody looked.
func (h *history) underlay() *world.Underlay {
	if h.oneIn(4) {
		return nil
	}
	return &world.Underlay{MTU4: pick(h, 0, 1400, 1500), MTU6: pick(h, 0, 1400, 9000), Held: pick(h, 0, 0, 1350)}
}

// observed is what helpers observe, or some of it.
func (h *history) observed() (out []world.Part) {
	if pass := h.oneIn(2); h.oneIn(2) {
		out = append(out, world.PodsPass.Part(&pass))
	}
	if h.oneIn(2) {
		out = append(out, snat.TimeWait.Part(&snat.Wait{Before: pick(h, "", "120", "60"), Short: h.oneIn(2)}))
	}
	if h.oneIn(2) {
		out = append(out, world.PortsTaken.Part(h.taken()))
	}
	return out
}
