package kernel

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/route"
	"fairlead.dev/fairlead/internal/datapath/rtnl"
	"fairlead.dev/fairlead/internal/world"
)

// mostSourceRules bounds how many are told of.
const mostSourceRules = 256

// sourceRules are others' rules that look at a packet's source, perhaps at its
// destination, and at nothing else, and that concern an address of an interface. A
// network may have such rules for each of its pods.
func sourceRules(interfaces []world.Interface) ([]world.SourceRule, error) {
	c, err := rtnl.Dial()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var out []world.SourceRule
	err = route.EveryRule(c, func(r route.Rule, by uint8) {
		if by != datapath.RouteProtocol && r.Leads() && r.From.Bits() > 0 && r.Mask == 0 && r.Table != unix.RT_TABLE_LOCAL &&
			len(out) < mostSourceRules && holdsOne(r.From, interfaces) {
			out = append(out, world.SourceRule{Priority: r.Priority, From: r.From, To: r.To, Table: r.Table})
		}
	})
	return out, err
}

func holdsOne(p netip.Prefix, interfaces []world.Interface) bool {
	return slices.ContainsFunc(interfaces, func(i world.Interface) bool {
		return slices.ContainsFunc(i.Addresses, func(a netip.Prefix) bool { return p.Contains(a.Addr()) })
	})
}
