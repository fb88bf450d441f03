package world

// ServicePorts is what kube-apiserver hands out for Services of type NodePort unless
// told otherwise (--service-node-port-range).
var ServicePorts = PortRange{Low: 30000, High: 32767}

// AnySourcePort is what the kernel chooses from where no range is given and the original
// port is not below (net/netfilter/nf_nat_core.c, nf_nat_l4proto_unique_tuple).
var AnySourcePort = PortRange{Low: 1024, High: 65535}

// SourcePorts is the range that a choice comes to on this node; zero: the kernel's.
// Crowded: the node's ephemeral range less what others need is nothing, and it is used
// whole. NAT takes one range, so the largest piece that remains is the choice.
func (w *World) SourcePorts(c PortChoice) (r PortRange, crowded bool) {
	switch c.Mode {
	case PortsFixed:
		return c.Range, false
	case PortsKernel:
		return PortRange{}, false
	}
	taken := append([]PortRange{ServicePorts}, w.Kernel.ReservedPorts...)
	if w.Config.NodePortLocal.Enabled {
		taken = append(taken, w.Config.NodePortLocal.Ports)
	}
	for _, left := range w.Kernel.LocalPorts.Without(taken...) {
		if r.High == 0 || left.Len() > r.Len() {
			r = left
		}
	}
	if r.High == 0 {
		return w.Kernel.LocalPorts, true
	}
	return r, false
}

// WantsRandomPorts reports whether source ports are to be chosen at random: as somebody
// said, and if nobody did, only where pods read one clock for their timestamps; else random
// ports come back to servers that refuse them. Beside another network those do whom
// our plugin was chained for.
func (w *World) WantsRandomPorts(s SNAT) bool {
	oneClock := w.Config.Enabled("tcp") && w.Config.PodTCP.Timestamps == TimestampsMonotonic && (!w.Beside() || len(w.Attachments.List) > 0)
	return s.Randomize && (s.Asked || oneClock)
}
