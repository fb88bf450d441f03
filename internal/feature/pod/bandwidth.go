package pod

import (
	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/link"
	"fairlead.dev/fairlead/internal/datapath/tc"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/world"
)

// bound holds an attachment to its bandwidth. What the pod receives waits before
// its wire. What it sends comes in by the wire, where nothing can wait, and takes
// the way round by a device of its own.
func bound(p *datapath.Part, a *world.Attachment, mtu int) {
	wire, b := feature.LinkName(a.ContainerID, a.Interface), a.Bandwidth
	if b.IngressRate > 0 {
		p.Shapers = append(p.Shapers, shaper(wire, b.IngressRate, b.IngressBurst, mtu))
	}
	if b.EgressRate > 0 {
		round := datapath.IFBLink(wire)
		p.Links = append(p.Links, &link.Link{Name: round, MTU: mtu, MAC: datapath.WireMAC, IFB: true})
		p.Redirects = append(p.Redirects, tc.Redirect{Link: wire, To: round})
		p.Shapers = append(p.Shapers, shaper(round, b.EgressRate, b.EgressBurst, mtu))
	}
}

// usualBurst is how much may pass at once where nobody says: what passes in that
// part of a second.
const usualBurst = 10

// shaper holds a device to a rate. Runtimes that leave the burst open say 2^32-1
// bits, which would be no bound for the first half gigabyte: a burst of more than a
// second counts as none.
func shaper(device string, rate, burst uint64, mtu int) tc.Shaper {
	if burst == 0 || burst > rate {
		burst = rate / usualBurst
	}
	return tc.Shaper{Link: device, Rate: rate, Burst: max(burst, tc.LeastBurst(mtu))}
}
