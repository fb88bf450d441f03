package feature_test

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/world"
)

// egresses adds, changes or removes one Egress. Now and then it makes no sense, or has an
// address or a number of another.
func (h *history) egresses(now []*v1alpha1.Egress) []*v1alpha1.Egress {
	i := h.random.IntN(4)
	name := fmt.Sprintf("e%d", i)
	out := slices.DeleteFunc(slices.Clone(now), func(e *v1alpha1.Egress) bool { return e.Name == name })
	if len(out) < len(now) && h.oneIn(4) {
		return out
	}
	e := &v1alpha1.Egress{ObjectMeta: metav1.ObjectMeta{Name: name, Generation: int64(h.random.IntN(3)), CreationTimestamp: metav1.Unix(int64(h.random.IntN(5)), 0)}}
	e.Spec.AppliedTo = v1alpha1.EgressAppliedTo{NamespaceSelector: h.selector("team"), PodSelector: h.selector("app")}
	if h.oneIn(3) {
		e.Spec.ExceptCIDRs = []string{"203.0.113.0/24", "fd00:9::/32", "10.0.0.0/8", "there"}[h.random.IntN(4):]
	}
	randomize, ports, unavailable := h.oneIn(2), pick(h, "40000-49999", "32768-65535", "9-8"), pick(h, v1alpha1.UnavailableDrop, v1alpha1.UnavailableFallBack, "?")
	if h.oneIn(2) {
		e.Spec.RandomizePorts = &randomize
	}
	if h.oneIn(2) {
		e.Spec.PortRange = &ports
	}
	if h.oneIn(2) {
		e.Spec.Unavailable = &unavailable
	}
	for _, ip := range []string{fmt.Sprintf("192.168.100.20%d", i), fmt.Sprintf("fd00:100::20%d", i), "192.168.101.200", "nowhere"} {
		if h.oneIn(2) {
			continue
		}
		e.Spec.EgressIPs = append(e.Spec.EgressIPs, ip)
		if !h.oneIn(4) {
			e.Status.Addresses = append(e.Status.Addresses, v1alpha1.EgressAddress{IP: ip, Number: h.random.IntN(12), Node: pick(h, "", "n1", "n1", "n2", "n3")})
		}
	}
	return append(out, e)
}

// namespaces adds, changes or removes one of the namespaces of pods.
func (h *history) namespaces(now []*world.Namespace) []*world.Namespace {
	key := world.Key{Name: pick(h, "default", "other")}
	out := slices.DeleteFunc(slices.Clone(now), func(n *world.Namespace) bool { return n.Key == key })
	if !h.oneIn(4) {
		out = append(out, &world.Namespace{Key: key, Labels: world.NewLabels(map[string]string{"team": pick(h, "a", "b")})})
	}
	slices.SortFunc(out, func(a, b *world.Namespace) int { return a.Compare(b.Key) })
	return out
}

// selector selects by a label with the given name, or somehow, or is none.
func (h *history) selector(label string) *metav1.LabelSelector {
	one := metav1.LabelSelectorRequirement{Key: label, Operator: pick(h, metav1.LabelSelectorOpIn, metav1.LabelSelectorOpNotIn, "?"), Values: pick(h, []string{"a"}, []string{"a", "b"})}
	there := metav1.LabelSelectorRequirement{Key: pick(h, label, "role"), Operator: pick(h, metav1.LabelSelectorOpExists, metav1.LabelSelectorOpDoesNotExist)}
	return pick(h, nil, &metav1.LabelSelector{}, &metav1.LabelSelector{MatchLabels: map[string]string{label: pick(h, "a", "b")}},
		&metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{one}}, &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{one, there}})
}
