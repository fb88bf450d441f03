package source

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/world"
)

// parseNodes returns the nodes sorted by name.
func (b *Builder) parseNodes(nodes []*corev1.Node) ([]meaning, []world.Problem) {
	var out []meaning
	var problems []world.Problem
	known := make(map[*corev1.Node]meaning, len(nodes))
	for _, o := range nodes {
		m, ok := b.nodes[o]
		if !ok {
			m = parseNode(o)
			m.node.MAC = b.mac(o.Name)
		}
		known[o] = m
		problems = append(problems, m.problems...)
		out = append(out, m)
	}
	b.nodes = known
	slices.SortFunc(out, func(x, y meaning) int { return strings.Compare(x.node.Name, y.node.Name) })
	return out, problems
}

// ForOthers is the part of an agent's report that concerns other nodes; the rest
// changes all the time, and another version of the agent may say more.
func ForOthers(r *v1alpha1.FairleadNode) *v1alpha1.FairleadNode {
	out := &v1alpha1.FairleadNode{}
	out.Name = r.Name
	for _, a := range r.Status.OverlayAddresses[:min(mostEnds, len(r.Status.OverlayAddresses))] {
		out.Status.OverlayAddresses = append(out.Status.OverlayAddresses, quote.Text(a, mostText))
	}
	if o := r.Status.Overlay; o != nil && slices.Contains(overlayModes, world.OverlayMode(o.Mode)) {
		out.Status.Overlay = &v1alpha1.OverlayInForce{Mode: o.Mode, Port: o.Port, VNI: o.VNI}
	}
	return out
}

// reportedEnds gives the peers among the nodes the ends of the overlay that their
// agents report. A node has no report in its own world: it knows better.
func (r registrar) reportedEnds(reports []*v1alpha1.FairleadNode, nodes []meaning) []world.Problem {
	var problems []world.Problem
	for _, report := range reports {
		if r.own != nil && report.Name == r.own.Name {
			continue
		}
		i, known := slices.BinarySearchFunc(nodes, report.Name, func(m meaning, name string) int { return strings.Compare(m.node.Name, name) })
		var ends []netip.Addr
		for j, s := range report.Status.OverlayAddresses {
			a, reason, hint := parseNodeAddress(s)
			if reason == "" && known {
				reason, hint = r.end(nodes[i].node, a)
			}
			if reason != "" {
				problems = append(problems, world.Problem{Object: "FairleadNode " + report.Name,
					Field: fmt.Sprintf("status.overlayAddresses[%d]", j), Reason: reason, Hint: hint})
				continue
			}
			ends = append(ends, a)
		}
		if in := report.Status.Overlay; known && (len(ends) > 0 || in != nil) {
			n := *nodes[i].node
			n.Ends = ends
			if in != nil {
				n.InForce = world.InForce{Mode: world.OverlayMode(in.Mode), Port: in.Port, VNI: in.VNI}
			}
			nodes[i].node = &n
		}
	}
	return problems
}

func parseAddress(s string) (a netip.Addr, reason, hint string) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return a, quote.Of(s) + " is no IP address", "write one such as 192.0.2.1"
	}
	return a.Unmap(), "", ""
}

// How much is read of what one node has: the rest is left out.
const (
	mostAddresses = 16
	mostPodCIDRs  = 8
	mostEnds      = 2 // the schema's bound
	mostText      = 256
)

// OfNode is what counts of a Node, and no more than is read of it.
func OfNode(n *corev1.Node) *corev1.Node {
	out := &corev1.Node{}
	out.Name, out.CreationTimestamp = n.Name, n.CreationTimestamp // of two that claim one pod CIDR the older has it
	for _, a := range n.Status.Addresses {
		if len(out.Status.Addresses) > mostAddresses {
			break
		}
		if a.Type == corev1.NodeInternalIP || a.Type == corev1.NodeExternalIP {
			a.Address = quote.Text(a.Address, mostText)
			out.Status.Addresses = append(out.Status.Addresses, a)
		}
	}
	for _, c := range n.Spec.PodCIDRs[:min(len(n.Spec.PodCIDRs), mostPodCIDRs+1)] {
		out.Spec.PodCIDRs = append(out.Spec.PodCIDRs, quote.Text(c, mostText))
	}
	out.Spec.PodCIDR = quote.Text(n.Spec.PodCIDR, mostText)
	return out
}

func parseNode(o *corev1.Node) meaning {
	object := "Node " + o.Name
	var problems []world.Problem
	report := func(field, reason, hint string) {
		problems = append(problems, world.Problem{Object: object, Field: field, Reason: reason, Hint: hint})
	}
	n := &world.Node{Name: o.Name}
	o = OfNode(o)
	for i, a := range o.Status.Addresses {
		if i == mostAddresses {
			report("status.addresses", fmt.Sprintf("has more than %d addresses", mostAddresses), "the first of them count")
			break
		}
		addr, reason, hint := parseNodeAddress(a.Address)
		if reason != "" {
			report(fmt.Sprintf("status.addresses[%d].address", i), reason, hint)
			continue
		}
		if a.Type == corev1.NodeExternalIP {
			n.External = append(n.External, addr)
		} else {
			n.Addresses = append(n.Addresses, addr)
		}
	}
	cidrs, field := o.Spec.PodCIDRs, "spec.podCIDRs"
	if len(cidrs) == 0 && o.Spec.PodCIDR != "" {
		cidrs, field = []string{o.Spec.PodCIDR}, "spec.podCIDR"
	}
	for i, s := range cidrs {
		at := field
		if field == "spec.podCIDRs" {
			at = fmt.Sprintf("%s[%d]", field, i)
		}
		if i == mostPodCIDRs {
			report(field, fmt.Sprintf("has more than %d", mostPodCIDRs), "a node has at most one of each family")
			break
		}
		p, reason, hint := parsePodCIDR(s, n.PodCIDRs)
		if reason != "" {
			report(at, reason, hint)
			continue
		}
		n.PodCIDRs = append(n.PodCIDRs, p)
	}
	m := meaning{node: n, problems: problems}
	if made := o.CreationTimestamp; !made.IsZero() {
		m.created = made.Unix()
	}
	return m
}

// A pod CIDR has room for the node itself and for pods, and leaves room for
// others: a shorter one holds a good part of all addresses, or every one.
const (
	minHostBits = 2
	minBits     = 8
)

// notForPods are addresses that mean something else: loopback, link-local and
// multicast (RFC 6890, RFC 4291).
var notForPods = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("::/127"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"),
}

func parsePodCIDR(s string, others []netip.Prefix) (p netip.Prefix, reason, hint string) {
	p, reason, hint = parseCIDR(s)
	if reason != "" {
		return p, reason, hint
	}
	if p.Addr().BitLen()-p.Bits() < minHostBits {
		return p, fmt.Sprintf("%s has no room for pods", s), fmt.Sprintf("use a prefix of at most /%d", p.Addr().BitLen()-minHostBits)
	}
	if p.Bits() < minBits {
		return p, fmt.Sprintf("%s would take most of all addresses for the pods of one node", s),
			fmt.Sprintf("use a prefix of at least /%d", minBits)
	}
	for _, n := range notForPods {
		if n.Overlaps(p) {
			return p, fmt.Sprintf("%s overlaps %s, which is not for pods", s, n), "use a private network, such as 10.244.1.0/24 or fd00:10:244:1::/64"
		}
	}
	for _, o := range others {
		if o.Addr().Is4() == p.Addr().Is4() {
			return p, fmt.Sprintf("%s is a second pod CIDR of its family, besides %s", s, o), "a node has at most one of each family"
		}
	}
	return p, "", ""
}

func parseCIDR(s string) (p netip.Prefix, reason, hint string) {
	p, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return p, quote.Of(s) + " is no CIDR", "write an address and a prefix length, such as 192.0.2.0/24"
	case p.Addr().Is4In6():
		return p, quote.Of(s) + " is IPv4 written as IPv6", "write the IPv4 form"
	case p != p.Masked():
		return p, fmt.Sprintf("%s has bits set behind its prefix", s), fmt.Sprintf("write %s", p.Masked())
	}
	return p, "", ""
}
