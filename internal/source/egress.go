package source

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/world"
)

// How much of a label selector is taken: more would cost every pod that changes.
const (
	mostRequirements = 64 // labels and expressions together
	mostValues       = 256
)

// readEgress is what became of one Egress.
type readEgress struct {
	egress   *world.Egress
	problems []world.Problem
}

// parseEgresses returns the Egresses sorted by key.
func (b *Builder) parseEgresses(all []*v1alpha1.Egress) ([]*world.Egress, []world.Problem) {
	var out []*world.Egress
	var problems []world.Problem
	known := make(map[*v1alpha1.Egress]readEgress, len(all))
	for _, o := range all {
		r, ok := b.egresses[o]
		if !ok {
			r.egress, r.problems = Door{Node: b.node}.Egress(o)
		}
		known[o] = r
		out, problems = append(out, r.egress), append(problems, r.problems...)
	}
	b.egresses = known
	slices.SortFunc(out, func(e, f *world.Egress) int { return e.Compare(f.Key) })
	out, more := eachOnce(out)
	return out, append(problems, more...)
}

// OfEgress is what counts of an Egress.
func OfEgress(e *v1alpha1.Egress) *v1alpha1.Egress {
	out := &v1alpha1.Egress{Spec: e.Spec}
	out.Name, out.Generation, out.CreationTimestamp = e.Name, e.Generation, e.CreationTimestamp
	for _, a := range e.Status.Addresses[:min(len(e.Status.Addresses), world.MostEgressAddresses+1)] {
		out.Status.Addresses = append(out.Status.Addresses, v1alpha1.EgressAddress{IP: a.IP, Number: a.Number, Node: a.Node})
	}
	return out
}

// Egress returns what counts of o. A mistake in an address or a destination costs that;
// one in a selector means that nobody is selected: with a part of it more pods would be.
func (d Door) Egress(o *v1alpha1.Egress) (*world.Egress, []world.Problem) {
	e := &world.Egress{Key: world.Key{Name: d.intern(o.Name)}, Generation: o.Generation}
	if made := o.CreationTimestamp; !made.IsZero() {
		e.Created = made.Unix()
	}
	m := mistakes{object: "Egress " + o.Name}
	namespaces, right := m.selector("spec.appliedTo.namespaceSelector", o.Spec.AppliedTo.NamespaceSelector)
	pods, alsoRight := m.selector("spec.appliedTo.podSelector", o.Spec.AppliedTo.PodSelector)
	if right && alsoRight {
		e.Namespaces, e.Pods = namespaces, pods
	}
	e.Addresses = m.egressIPs(o.Spec.EgressIPs)
	d.numbers(&m, e.Addresses, o.Status.Addresses)
	e.Except = m.exceptCIDRs(o.Spec.ExceptCIDRs)
	if r := o.Spec.RandomizePorts; r != nil {
		randomize := *r
		e.Randomize = &randomize
	}
	if r := o.Spec.PortRange; r != nil {
		ports, reason, hint := ParsePortRange(*r)
		if reason != "" {
			m.report("spec.portRange", reason, hint)
		}
		e.Ports = ports
	}
	if u := o.Spec.Unavailable; u != nil {
		switch *u {
		case v1alpha1.UnavailableFallBack:
			e.FallBack = true
		case "", v1alpha1.UnavailableDrop:
		default:
			m.report("spec.unavailable", quote.Of(*u)+" is no choice: Drop counts", "write Drop or FallBack")
		}
	}
	return e, m.problems
}

// egressIPs are the addresses of an Egress, without numbers.
func (m *mistakes) egressIPs(all []string) (out []world.EgressAddress) {
	const field = "spec.egressIPs"
	if len(all) == 0 {
		m.report(field, "has no address", "write one such as 198.51.100.7 or 2001:db8::7")
	}
	for i, s := range all {
		if i == world.MostEgressAddresses {
			m.report(field, fmt.Sprintf("has more than %d addresses", world.MostEgressAddresses), "the first of them count")
			break
		}
		at := fmt.Sprintf("%s[%d]", field, i)
		a, reason, hint := parseAddress(s)
		switch {
		case reason != "":
			m.report(at, reason, hint)
		case !a.IsGlobalUnicast():
			m.report(at, fmt.Sprintf("%s is no address that a connection can have across networks", a), "write one such as 198.51.100.7 or 2001:db8::7")
		case slices.ContainsFunc(out, func(e world.EgressAddress) bool { return e.Address == a }):
			m.report(at, fmt.Sprintf("%s is there already", a), "remove one of the two")
		default:
			out = append(out, world.EgressAddress{Address: a})
		}
	}
	return out
}

// numbers takes the numbers and nodes of addresses from the status. What it says of
// others is about an earlier spec.
func (d Door) numbers(m *mistakes, addresses []world.EgressAddress, status []v1alpha1.EgressAddress) {
	const ofController = "let the controller write the status"
	for i, s := range status {
		if i == world.MostEgressAddresses {
			m.report("status.addresses", fmt.Sprintf("has more than %d addresses", world.MostEgressAddresses), ofController)
			return
		}
		at := fmt.Sprintf("status.addresses[%d].", i)
		a, reason, _ := parseAddress(s.IP)
		j := slices.IndexFunc(addresses, func(e world.EgressAddress) bool { return e.Address == a })
		switch {
		case reason != "":
			m.report(at+"ip", reason, ofController)
		case j < 0:
		case addresses[j].Number != 0:
			m.report(at+"ip", fmt.Sprintf("%s is there already, with number %d, which counts", a, addresses[j].Number), ofController)
		case s.Number < 1 || s.Number > world.LastEgressNumber:
			m.report(at+"number", fmt.Sprintf("%d is no number of an address: %s is not used", s.Number, a), ofController)
		case len(s.Node) > validation.DNS1123SubdomainMaxLength:
			m.report(at+"node", quote.Of(s.Node)+" is no name of a node", ofController)
		default:
			addresses[j].Number, addresses[j].Node = uint16(s.Number), d.intern(s.Node)
		}
	}
}

// exceptCIDRs are sorted, each once.
func (m *mistakes) exceptCIDRs(all []string) (out []netip.Prefix) {
	const field = "spec.exceptCIDRs"
	for i, s := range all {
		if i == mostCIDRs {
			m.report(field, fmt.Sprintf("has more than %d items", mostCIDRs), "the first of them count")
			break
		}
		p, reason, hint := parseCIDR(s)
		if reason != "" {
			m.report(fmt.Sprintf("%s[%d]", field, i), reason, hint)
			continue
		}
		out = append(out, p)
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out)
}

// selector reads a label selector; false where something is wrong with it.
func (m *mistakes) selector(field string, s *metav1.LabelSelector) (*world.LabelSelector, bool) {
	if s == nil {
		return nil, true
	}
	before := len(m.problems)
	nobody := func(at, reason, hint string) { m.report(at, reason+": the Egress selects nobody", hint) }
	if n := len(s.MatchLabels) + len(s.MatchExpressions); n > mostRequirements {
		nobody(field, fmt.Sprintf("has %d labels and expressions", n), fmt.Sprintf("write at most %d", mostRequirements))
		return nil, false
	}
	label := func(at, name string, values ...string) {
		if why := validation.IsQualifiedName(name); len(why) > 0 {
			nobody(at, quote.Of(name)+" is no name of a label", "write one such as app or example.com/team")
		}
		for _, v := range values {
			if why := validation.IsValidLabelValue(v); len(why) > 0 {
				nobody(at, quote.Of(v)+" is no value of a label", "write up to 63 letters, digits, dashes, dots and underscores")
				return // of many that are wrong, one says enough
			}
		}
	}
	out := &world.LabelSelector{Labels: world.NewLabels(s.MatchLabels)}
	for name, value := range out.Labels.All() {
		label(field+".matchLabels", name, value)
	}
	for i, r := range s.MatchExpressions {
		at := fmt.Sprintf("%s.matchExpressions[%d]", field, i)
		if reason, hint := wrongRequirement(r); reason != "" {
			nobody(at, reason, hint)
			continue
		}
		label(at, r.Key, r.Values...)
		out.Requirements = append(out.Requirements, world.Requirement{Key: r.Key, Op: world.SelectorOp(r.Operator), Values: slices.Clone(r.Values)})
	}
	return out, len(m.problems) == before
}

// wrongRequirement says what is wrong with the operator of r, or with how many values it
// has.
func wrongRequirement(r metav1.LabelSelectorRequirement) (reason, hint string) {
	switch op := world.SelectorOp(r.Operator); op {
	case world.OpIn, world.OpNotIn:
		if n := len(r.Values); n == 0 {
			return string(op) + " has no values", "write values, or use Exists or DoesNotExist"
		} else if n > mostValues {
			return fmt.Sprintf("has %d values", n), fmt.Sprintf("write at most %d", mostValues)
		}
	case world.OpExists, world.OpDoesNotExist:
		if len(r.Values) > 0 {
			return string(op) + " has values", "leave values out, or use In or NotIn"
		}
	default:
		return quote.Of(string(op)) + " is no operator", "write In, NotIn, Exists or DoesNotExist"
	}
	return "", ""
}

// eachOnce are the Egresses, of which an older one has a number or an address that two of
// them have: nothing else would tell apart what leaves with which.
func eachOnce(all []*world.Egress) ([]*world.Egress, []world.Problem) {
	type holder struct {
		name    string
		address netip.Addr
	}
	var problems []world.Problem
	numbers, addresses := map[uint16]holder{}, map[netip.Addr]holder{}
	var losers []*world.Egress
	for _, e := range slices.SortedFunc(slices.Values(all), byAge) {
		next := *e
		lost := false
		for i, a := range e.Addresses {
			if a.Number == 0 {
				continue
			}
			mine := holder{e.Name, a.Address}
			p := world.Problem{Object: "Egress " + e.Name, Field: "status.addresses"}
			if other, taken := addresses[a.Address]; taken {
				p.Reason = fmt.Sprintf("%s is an address of Egress %s, which is older: it is not used here", a.Address, other.name)
				p.Hint = "write it in one Egress only"
			} else if other, taken := numbers[a.Number]; taken {
				p.Reason = fmt.Sprintf("%s has number %d, which %s of Egress %s has too: it is not used", a.Address, a.Number, other.address, other.name)
				p.Hint = "let the controller write the status"
			} else {
				addresses[a.Address], numbers[a.Number] = mine, mine
				continue
			}
			if !lost {
				next.Addresses, lost = slices.Clone(e.Addresses), true
			}
			next.Addresses[i].Number, next.Addresses[i].Node = 0, ""
			problems = append(problems, p)
		}
		if lost {
			losers = append(losers, &next)
		}
	}
	if len(losers) == 0 {
		return all, nil
	}
	out := slices.Clone(all)
	for _, e := range losers {
		i, _ := slices.BinarySearchFunc(out, e.Key, func(o *world.Egress, k world.Key) int { return o.Compare(k) })
		out[i] = e
	}
	return out, problems
}

// byAge puts the older one first.
func byAge(e, f *world.Egress) int {
	switch {
	case e.Older(f):
		return -1
	case f.Older(e):
		return 1
	}
	return strings.Compare(e.Name, f.Name)
}

// sameEach puts the last Egresses in the place of equal ones.
func sameEach(last, now *world.Sorted[world.Egress]) *world.Sorted[world.Egress] {
	if last == nil || slices.Equal(last.List, now.List) {
		return now
	}
	out := slices.Clone(now.List)
	for i, e := range out {
		j, there := slices.BinarySearchFunc(last.List, e.Key, func(o *world.Egress, k world.Key) int { return o.Compare(k) })
		if there && last.List[j].Equal(e) {
			out[i] = last.List[j]
		}
	}
	return list(out)
}
