package pod

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/world"
)

// Values of accept_ra (Linux Documentation/networking/ip-sysctl.rst).
const (
	ignored      = "0" // what the kernel learns nothing from; a daemon may
	unlessRouter = "1"
	always       = "2"
)

// advertisements lets interfaces go on taking router advertisements, which forwarding
// of IPv6 would end: routes by them go at once, addresses when their time is over, and
// an interface that comes later gets neither (Linux net/ipv6/addrconf.c,
// addrconf_forward_change, ipv6_accept_ra).
func advertisements(w *world.World) []sysctl.Setting {
	var out []sysctl.Setting
	for _, i := range w.Kernel.Interfaces {
		if takesRA(w, i) {
			// A daemon that takes over the interface makes it 0, maybe this moment.
			out = append(out, sysctl.Setting{Key: datapath.AcceptRA(i.Name), Value: always, From: unlessRouter})
		}
	}
	return out
}

// takesRA reports whether i takes advertisements, or did before the node forwarded.
// A node that forwarded before us ignored those that tell of something new. Who
// advertises may lead the node's packets where he likes, so that an interface that
// may be the wire of another network's pod is believed nothing.
func takesRA(w *world.World, i world.Interface) bool {
	switch now := w.Kernel.AcceptRA[i.Name]; {
	case !forwards6(w):
		return false
	case now == always:
		return true
	case now != unlessRouter:
		return false
	}
	isNodes := slices.ContainsFunc(i.Addresses, func(p netip.Prefix) bool { return slices.Contains(w.Node.Addresses, p.Addr()) })
	return i.Advertised || !w.Kernel.Router && !i.Down && (i.Hardware || isNodes)
}

func forwards6(w *world.World) bool { return slices.ContainsFunc(families(w), netip.Addr.Is6) }

var routerAdvertisements = doctor.Check{
	ID: "router-advertisements", Ask: "Do interfaces that need router advertisements still accept them?",
	Read: func(s doctor.Subject) []doctor.Finding {
		for _, i := range s.World.Kernel.Interfaces {
			if s.World.Kernel.AcceptRA[i.Name] == unlessRouter && takesRA(s.World, i) {
				return nil // it is about to be set, or has been since
			}
		}
		return advertised(s.World, func(i world.Interface) string { return s.World.Kernel.AcceptRA[i.Name] })
	},
	Needs: "accept_ra of interfaces that had 1 before the agent sets 2",
	Look: func(_ context.Context, n doctor.Node) []doctor.Finding {
		return advertised(n.World, func(i world.Interface) string {
			now := n.World.Kernel.AcceptRA[i.Name]
			if v, err := sysctl.Read(datapath.AcceptRA(i.Name)); err == nil && now == unlessRouter {
				now = v // it was set meanwhile
			}
			return now
		})
	},
}

// advertised says how it is with each interface, of which acceptRA has the setting.
func advertised(w *world.World, acceptRA func(world.Interface) string) (out []doctor.Finding) {
	for _, i := range w.Kernel.Interfaces {
		if f, ok := advertisedTo(w, i, acceptRA(i)); ok {
			f.Object = "interface " + i.Name
			out = append(out, f)
		}
	}
	if len(out) == 0 {
		out = append(out, doctor.Finding{Status: doctor.OK, Message: "no interface accepts router advertisements, and none needs them"})
	}
	return out
}

func advertisedTo(w *world.World, i world.Interface, now string) (doctor.Finding, bool) {
	key := datapath.AcceptRA(i.Name)
	switch {
	case !forwards6(w):
		return doctor.Finding{}, false
	case now == always:
		return doctor.Finding{Status: doctor.OK, Message: "it accepts router advertisements although the node forwards (accept_ra is 2)"}, true
	case now == unlessRouter && takesRA(w, i):
		return doctor.Finding{Status: doctor.Fail, Message: "what it has from router advertisements will expire: the node forwards, and accept_ra is 1",
			Hint: fmt.Sprintf("the agent sets %s=2; see its log if that stays", key)}, true
	case now == unlessRouter && i.Hardware && !i.Down:
		return doctor.Finding{Status: doctor.OK, Message: "it accepts no router advertisements: the node forwarded IPv6 before Fairlead did, and accept_ra is 1",
			Hint: fmt.Sprintf("if it should get addresses and routes from routers: sysctl -w %s=2", key)}, true
	case now == ignored && i.Advertised:
		return doctor.Finding{Status: doctor.OK, Message: "the kernel accepts no router advertisements (accept_ra is 0); a daemon, such as systemd-networkd or NetworkManager, keeps its addresses"}, true
	}
	return doctor.Finding{}, false
}
