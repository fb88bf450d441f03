package source

import (
	"fmt"
	"net/netip"
	"slices"

	"fairlead.dev/fairlead/internal/world"
)

// bounds are what limits the addresses of peers.
type bounds struct {
	cluster []netip.Prefix // what the settings allow; none: everything else
	uses    []use
}

// A use is what the node needs itself.
type use struct {
	of   netip.Prefix
	what string // "the network of eth0"
}

// boundsOf follow from the settings, the kernel and where objects come from.
func boundsOf(w *world.World, apiServer []netip.Addr) *bounds {
	out := &bounds{cluster: w.Config.ClusterCIDRs}
	add := func(a netip.Addr, what string) {
		if a.IsValid() && !a.IsLoopback() && !a.IsLinkLocalUnicast() {
			out.uses = append(out.uses, use{netip.PrefixFrom(a, a.BitLen()), what})
		}
	}
	for _, i := range w.Kernel.Interfaces {
		for _, p := range i.Addresses {
			if a := p.Addr(); !a.IsLoopback() && !a.IsLinkLocalUnicast() && p.Bits() > 0 && !p.IsSingleIP() {
				out.uses = append(out.uses, use{p.Masked(), "the network of " + i.Name})
			}
		}
	}
	for _, a := range w.Kernel.Resolvers {
		add(a, "a resolver")
	}
	for _, a := range apiServer {
		add(a, "the API server")
	}
	for _, e := range w.Kernel.Exits {
		add(e.Gateway, "the default gateway")
	}
	for _, i := range w.Kernel.Interfaces {
		for _, p := range i.Addresses {
			add(p.Addr(), "an address")
		}
	}
	return out
}

// orSame is last where that says the same.
func (b *bounds) orSame(last *bounds) *bounds {
	if last != nil && slices.Equal(b.cluster, last.cluster) && slices.Equal(b.uses, last.uses) {
		return last
	}
	return b
}

// allows reports whether the settings let a peer have p.
func (b *bounds) allows(p netip.Prefix) bool {
	return slices.ContainsFunc(b.cluster, func(c netip.Prefix) bool { return c.Bits() <= p.Bits() && c.Contains(p.Addr()) })
}

// A bouncer looks at what one node's peers say they have.
type bouncer struct {
	*bounds
	own *world.Node // nil: not known yet
}

// speaksOfNodes reports whether the settings say which addresses nodes have, in the
// family of like: with the node's own among them they do.
func (b bouncer) speaksOfNodes(like netip.Addr) bool {
	return b.own != nil && slices.ContainsFunc(b.own.Addresses, func(a netip.Addr) bool {
		return a.Is4() == like.Is4() && b.allows(netip.PrefixFrom(a, a.BitLen()))
	})
}

// peer is what a peer may have of what it says, and what it may not.
func (b bouncer) peer(n *world.Node) (*world.Node, []world.Problem) {
	var problems []world.Problem
	out := *n
	out.PodCIDRs = slices.DeleteFunc(slices.Clone(n.PodCIDRs), func(p netip.Prefix) bool {
		reason, hint := b.podCIDR(p)
		if reason != "" {
			problems = append(problems, world.Problem{Object: "Node " + n.Name, Field: "spec.podCIDRs", Reason: reason, Hint: hint})
		}
		return reason != ""
	})
	out.Addresses = slices.DeleteFunc(slices.Clone(n.Addresses), func(a netip.Addr) bool {
		reason, hint := b.outside(netip.PrefixFrom(a, a.BitLen()))
		if reason == "" || !b.speaksOfNodes(a) {
			return false
		}
		problems = append(problems, world.Problem{Object: "Node " + n.Name, Field: "status.addresses", Reason: reason, Hint: hint})
		return true
	})
	if len(problems) == 0 {
		return n, nil
	}
	return &out, problems
}

// outside says that the settings do not let a peer have p.
func (b bouncer) outside(p netip.Prefix) (reason, hint string) {
	if len(b.cluster) == 0 || b.allows(p) {
		return "", ""
	}
	what := p.String()
	if p.IsSingleIP() {
		what = p.Addr().String()
	}
	return what + " is not inside clusterCIDRs", "if it belongs to the cluster, add its network to clusterCIDRs of the AgentConfig"
}

// podCIDR says why p is no pod CIDR of a peer.
func (b bouncer) podCIDR(p netip.Prefix) (reason, hint string) {
	if reason, hint = b.outside(p); reason != "" {
		return reason, hint
	}
	const apart = "keep pod CIDRs apart from what nodes use themselves"
	name := "this node"
	if b.own != nil {
		name = "Node " + b.own.Name
	}
	for _, u := range b.uses {
		switch {
		case !u.of.Overlaps(p) || b.carved(u.of, p):
		case u.of.IsSingleIP():
			return fmt.Sprintf("%s contains %s, %s of %s", p, u.of.Addr(), u.what, name), apart
		default:
			return fmt.Sprintf("%s overlaps %s, %s of %s", p, u.of, u.what, name), apart
		}
	}
	if b.own != nil {
		for _, a := range b.own.Addresses { // no interface may have it yet
			if p.Contains(a) {
				return fmt.Sprintf("%s contains %s, an address of %s", p, a, name), apart
			}
		}
	}
	return "", ""
}

// carved reports whether pods have a part of a network, this node's pods too, and
// p is such a part; or the network is that of this node's pods, which no peer gets.
func (b bouncer) carved(network, p netip.Prefix) bool {
	return b.own != nil && slices.ContainsFunc(b.own.PodCIDRs, func(own netip.Prefix) bool {
		return own.Overlaps(network) && (own.Bits() <= network.Bits() || network.Bits() < p.Bits())
	})
}

// nowhere are addresses that no other node can have (RFC 6890).
func nowhere(a netip.Addr) bool {
	return a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a.Is6() && a.IsLinkLocalUnicast() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// parseNodeAddress reads an address that others may reach a node by.
func parseNodeAddress(s string) (a netip.Addr, reason, hint string) {
	a, reason, hint = parseAddress(s)
	if reason == "" && nowhere(a) {
		return a, fmt.Sprintf("%s is no address of one node", a), "write one by which others reach the node, such as 192.0.2.1"
	}
	return a, reason, hint
}

// A registrar knows who has which address.
type registrar struct {
	bouncer
	owners map[netip.Addr]string // names of Nodes
	claims []claim
}

func newRegistrar(b bouncer, nodes []meaning, claims []claim) registrar {
	r := registrar{b, make(map[netip.Addr]string, len(nodes)), claims}
	for _, m := range nodes {
		for _, a := range m.node.Addresses {
			if r.owners[a] == "" {
				r.owners[a] = m.node.Name
			}
		}
	}
	return r
}

// end says why a is no end of the overlay of n, which reports it.
func (r registrar) end(n *world.Node, a netip.Addr) (reason, hint string) {
	const has = "set overlay.interface so that the node's own address carries the overlay"
	if slices.Contains(n.Addresses, a) {
		return "", ""
	}
	if r.speaksOfNodes(a) {
		if reason, hint = r.outside(netip.PrefixFrom(a, a.BitLen())); reason != "" {
			return reason, hint
		}
	}
	if owner := r.owners[a]; r.own != nil && owner == r.own.Name {
		return fmt.Sprintf("%s is an address of this node, %s", a, owner), has
	} else if owner != "" {
		return fmt.Sprintf("%s is an address of Node %s", a, owner), has
	}
	for _, u := range r.uses {
		if u.of == netip.PrefixFrom(a, a.BitLen()) {
			return fmt.Sprintf("%s is %s of this node", a, u.what), has
		}
	}
	if c := around(r.claims, a); c != nil {
		return fmt.Sprintf("%s is inside %s, the pod CIDR of Node %s", a, c.CIDR, c.Node), has
	}
	return "", ""
}
