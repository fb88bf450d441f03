package controller

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/internal/placement"
	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/source"
)

// MostEgressIPs is the annotation, or the label, of a Node that says how many addresses
// of Egresses it takes at most.
const MostEgressIPs = "fairlead.dev/max-egress-ips"

// stripNode leaves of a Node what the controller goes by, and that with a bound.
func stripNode(n *corev1.Node) *corev1.Node {
	out := source.OfNode(n)
	out.CreationTimestamp = metav1.Time{}
	out.Spec.Unschedulable = n.Spec.Unschedulable
	if zone := n.Labels[corev1.LabelTopologyZone]; zone != "" {
		out.Labels = map[string]string{corev1.LabelTopologyZone: zone}
	}
	most, written := n.Annotations[MostEgressIPs]
	if !written {
		most, written = n.Labels[MostEgressIPs]
	}
	if written {
		out.Annotations = map[string]string{MostEgressIPs: quote.Text(most, quote.Value)}
	}
	if evicts(n) {
		out.Spec.Taints = []corev1.Taint{{Effect: corev1.TaintEffectNoExecute}}
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			out.Status.Conditions = []corev1.NodeCondition{{Type: c.Type, Status: c.Status}}
		}
	}
	return out
}

func evicts(n *corev1.Node) bool {
	return slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.Effect == corev1.TaintEffectNoExecute })
}

// hosts are the Nodes as those that addresses are placed at, by name.
func (c *Cluster) hosts() []placement.Node {
	out := make([]placement.Node, 0, len(c.Nodes))
	for _, name := range slices.Sorted(maps.Keys(c.Nodes)) {
		n := c.Nodes[name]
		h := placement.Node{Name: name, Zone: n.Labels[corev1.LabelTopologyZone], Most: placement.NoLimit}
		for _, a := range n.Status.Addresses {
			if ip, err := netip.ParseAddr(a.Address); err == nil && a.Type == corev1.NodeInternalIP {
				h.IPv4, h.IPv6 = h.IPv4 || ip.Unmap().Is4(), h.IPv6 || ip.Unmap().Is6()
			}
		}
		for _, condition := range n.Status.Conditions {
			h.Ready = h.Ready || condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue
		}
		switch {
		case n.Spec.Unschedulable:
			h.Closed = "cordoned"
		case evicts(n):
			h.Closed = "tainted NoExecute"
		}
		if most, err := strconv.ParseUint(n.Annotations[MostEgressIPs], 10, 31); err == nil {
			h.Most = int(most)
		}
		out = append(out, h)
	}
	return out
}

// mistakes are what Nodes say that makes no sense, by Node.
func (c *Cluster) mistakes() map[string]string {
	out := map[string]string{}
	for name, n := range c.Nodes {
		if most, written := n.Annotations[MostEgressIPs]; written {
			if _, err := strconv.ParseUint(most, 10, 31); err != nil {
				out[name] = most
			}
		}
	}
	return out
}

// insides are the addresses that the cluster has itself.
type insides struct {
	nodes map[netip.Addr]string   // whose it is
	pods  map[netip.Prefix]string // of whose pods they are
	bits  []int                   // lengths of those prefixes
}

func (c *Cluster) inside() *insides {
	in := &insides{nodes: map[netip.Addr]string{}, pods: map[netip.Prefix]string{}}
	bits := map[int]bool{}
	for _, name := range slices.Sorted(maps.Keys(c.Nodes)) {
		n := c.Nodes[name]
		for _, a := range n.Status.Addresses {
			if ip, err := netip.ParseAddr(a.Address); err == nil && in.nodes[ip.Unmap()] == "" {
				in.nodes[ip.Unmap()] = name
			}
		}
		for _, s := range append([]string{n.Spec.PodCIDR}, n.Spec.PodCIDRs...) {
			if p, err := netip.ParsePrefix(s); err == nil && in.pods[p.Masked()] == "" {
				in.pods[p.Masked()], bits[p.Bits()] = name, true
			}
		}
	}
	in.bits = slices.Sorted(maps.Keys(bits))
	return in
}

// of says whose an address is; "": nobody's.
func (in *insides) of(a netip.Addr) string {
	if node := in.nodes[a]; node != "" {
		return "is an address of Node " + node
	}
	for _, bits := range in.bits {
		if p, err := a.Prefix(bits); err == nil && in.pods[p] != "" {
			return "is in " + p.String() + ", the pods' addresses at Node " + in.pods[p]
		}
	}
	return ""
}
