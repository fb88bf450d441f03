package controller

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/placement"
	"fairlead.dev/fairlead/internal/quote"
)

// egresses are the objects of kind Egress.
const egresses = "egresses"

func ofEgress(e *v1alpha1.Egress) Object {
	return Object{Object: e, Kind: "Egress", Resource: egresses, Status: Status{e.Status.Conditions, e.Status.Addresses},
		Types: []contribution{{v1alpha1.ConditionDegraded, metav1.ConditionTrue}}}
}

// The reasons of conditions that say where the addresses of an Egress are.
const (
	reasonAllocated  = "Allocated"
	reasonAssigned   = "Assigned"
	reasonInvalid    = "InvalidAddress"
	reasonOfCluster  = "AddressOfCluster" // a node's or a pod's
	reasonInUse      = "AddressInUse"     // another Egress has it
	reasonNoNumber   = "NoNumber"         // all are taken
	reasonNoAddress  = "NoAddress"        // there is none to be assigned
	reasonNoEgressAt = "NoNode"
)

// A wish is one of spec.egressIPs, and what is the matter with it.
type wish struct {
	written     string
	address     netip.Addr
	reason, why string // "": it is granted
}

// A claim is an Egress, as the controller last wrote it or sees it, and what it asks for.
type claim struct {
	*v1alpha1.Egress
	has    []v1alpha1.EgressAddress
	wishes []wish
}

// An allocation is what all Egresses have.
type allocation struct {
	claims []*claim // the older first
	owner  map[netip.Addr]*claim
	had    map[netip.Addr]v1alpha1.EgressAddress
	number map[netip.Addr]int
}

// allocate returns who has which address, and gives it a number. Every address has its
// number for as long as an Egress asks for it: whichever, and also while two do.
func (b *book) allocate(c *Cluster) *allocation {
	a := &allocation{owner: map[netip.Addr]*claim{}, had: map[netip.Addr]v1alpha1.EgressAddress{}, number: map[netip.Addr]int{}}
	for _, o := range c.Objects {
		if e, ok := o.Object.(*v1alpha1.Egress); ok {
			a.claims = append(a.claims, &claim{Egress: e, has: o.Addresses})
		}
	}
	slices.SortFunc(a.claims, func(x, y *claim) int {
		return cmp.Or(x.CreationTimestamp.Compare(y.CreationTimestamp.Time), strings.Compare(x.Name, y.Name))
	})
	inside := c.inside()
	for _, x := range a.claims {
		a.ask(x, inside)
	}
	a.recall()
	var want []netip.Addr
	for address := range a.owner {
		if a.number[address] == 0 {
			want = append(want, address)
		}
	}
	b.give(a.number, want)
	return a
}

// ask notes what an Egress asks for, and what of it it cannot have.
func (a *allocation) ask(x *claim, inside *insides) {
	for _, s := range x.Spec.EgressIPs[:min(len(x.Spec.EgressIPs), v1alpha1.MaxEgressIPs)] {
		w := wish{written: s}
		w.address, w.why = parseEgressIP(s)
		switch before := a.owner[w.address]; {
		case w.why != "":
			w.reason = reasonInvalid
		case before == x:
			continue // it is written twice
		case before != nil:
			w.reason, w.why = reasonInUse, fmt.Sprintf("Egress %s has it, which %s", before.Name, precedence(before, x))
		default:
			if w.why = inside.of(w.address); w.why != "" {
				w.reason = reasonOfCluster
				break
			}
			a.owner[w.address] = x
		}
		x.wishes = append(x.wishes, w)
	}
}

func precedence(before, x *claim) string {
	if before.CreationTimestamp.Equal(&x.CreationTimestamp) {
		return "comes first by name"
	}
	return "is older"
}

// recall reads from statuses what addresses had: from their owner's first, and from
// others' that had them before. Of two with one number the first keeps it.
func (a *allocation) recall() {
	taken := map[int]bool{}
	for _, owners := range []bool{true, false} {
		for _, x := range a.claims {
			for _, h := range x.has {
				address, err := netip.ParseAddr(h.IP)
				owner := a.owner[address]
				if _, known := a.had[address]; err != nil || owner == nil || known || (owner == x) != owners {
					continue
				}
				if h.Number < 1 || h.Number > v1alpha1.MaxEgressNumber || taken[h.Number] {
					h.Number = 0
				}
				a.had[address] = h
				if h.Number != 0 {
					a.number[address], taken[h.Number] = h.Number, true
				}
			}
		}
	}
}

// parseEgressIP reads one of spec.egressIPs, and says what is wrong with it.
func parseEgressIP(s string) (a netip.Addr, why string) {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil || a.Zone() != "" || a.Is4In6():
		return netip.Addr{}, "is no IP address: write one such as 198.51.100.7 or 2001:db8::7"
	case a.IsUnspecified():
		why = "is the unspecified address"
	case a.IsLoopback():
		why = "is a loopback address"
	case a.IsMulticast():
		why = "is a multicast address"
	case a.IsLinkLocalUnicast():
		why = "is a link-local address"
	case !a.IsGlobalUnicast():
		why = "is the broadcast address"
	}
	return a, why
}

// assign gives every address with a number a node, and returns the status of each
// Egress by its name as a String: addresses, and the conditions that follow from them.
func (b *book) assign(c *Cluster, now time.Time) map[string]Status {
	a := b.allocate(c)
	var asked []placement.Address
	for _, x := range a.claims {
		for _, w := range x.wishes {
			if w.why == "" && a.number[w.address] != 0 {
				asked = append(asked, placement.Address{Addr: w.address, Egress: x.Name, Node: a.had[w.address].Node})
			}
		}
	}
	places := placement.Place(asked, c.hosts())
	out := make(map[string]Status, len(a.claims))
	at := metav1.NewTime(now.UTC().Truncate(time.Second))
	next := 0
	for _, x := range a.claims {
		var s Status
		var unplaced []wish
		for i := range x.wishes {
			w := &x.wishes[i]
			if w.why != "" {
				continue
			}
			n := a.number[w.address]
			if n == 0 {
				w.reason, w.why = reasonNoNumber, fmt.Sprintf("all %d numbers of addresses are taken", v1alpha1.MaxEgressNumber)
				continue
			}
			one := v1alpha1.EgressAddress{IP: w.address.String(), Number: n, Node: places.Nodes[next]}
			next++
			if had := a.had[w.address]; one.Node == "" {
				unplaced = append(unplaced, wish{written: one.IP, reason: reasonNoEgressAt, why: places.WhyNone(w.address)})
			} else if one.Since = &at; one.Node == had.Node && had.Since != nil {
				one.Since = had.Since
			}
			s.Addresses = append(s.Addresses, one)
		}
		s.Conditions = []metav1.Condition{allocated(x), assigned(s.Addresses, unplaced)}
		for i := range s.Conditions {
			s.Conditions[i].ObservedGeneration = x.Generation
		}
		out["Egress "+x.Name] = s
	}
	return out
}

// allocated is the condition of an Egress that says whether its addresses have numbers.
func allocated(x *claim) metav1.Condition {
	refused := slices.DeleteFunc(slices.Clone(x.wishes), func(w wish) bool { return w.why == "" })
	c := metav1.Condition{Type: v1alpha1.ConditionAllocated, Status: metav1.ConditionTrue, Reason: reasonAllocated, Message: "every address has a number"}
	switch more := len(x.Spec.EgressIPs) - v1alpha1.MaxEgressIPs; {
	case len(x.wishes) == 0:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, reasonNoAddress, "spec.egressIPs is empty: write addresses"
	case len(refused) > 0:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, refused[0].reason, told(refused)
	case more > 0:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, reasonInvalid, fmt.Sprintf("the last %d addresses do not count: an Egress can have %d", more, v1alpha1.MaxEgressIPs)
	}
	return c
}

// assigned is the condition that says whether the addresses with numbers have nodes.
func assigned(all []v1alpha1.EgressAddress, unplaced []wish) metav1.Condition {
	c := metav1.Condition{Type: v1alpha1.ConditionAssigned, Status: metav1.ConditionTrue, Reason: reasonAssigned, Message: "every address with a number has a node"}
	switch {
	case len(all) == 0:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, reasonNoAddress, "no address has a number"
	case len(unplaced) > 0:
		c.Status, c.Reason, c.Message = metav1.ConditionFalse, unplaced[0].reason, told(unplaced)
	}
	return c
}

// told puts into words what is the matter with addresses, the first of them.
func told(wishes []wish) string {
	var said []string
	for i, w := range wishes {
		if i == mostFindings {
			said = append(said, fmt.Sprintf("and %d more", len(wishes)-i))
			break
		}
		said = append(said, quote.Text(quote.Text(w.written, quote.Value)+": "+w.why, mostOfOne))
	}
	return strings.Join(said, "; ")
}
