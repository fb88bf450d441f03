package source

import (
	"net/netip"

	"fairlead.dev/fairlead/internal/world"
)

// PlainTCP is what a network namespace has that nobody changed.
var PlainTCP = world.TCP{Timestamps: "1", Reuse: "2"}

// PlainKernel is what an ordinary node's kernel would show: the node's
// addresses on eth0, the usual ephemeral range, everything supported. It stands
// in where objects are rendered away from the node.
func PlainKernel(n *world.Node) *world.Kernel {
	k := &world.Kernel{
		LocalPorts:   world.PortRange{Low: 32768, High: 60999},
		Capabilities: world.Capabilities{FullyRandomPorts: world.Capability{OK: true}, TCX: world.Capability{OK: true}, TCXEgress: world.Capability{OK: true}},
	}
	eth0 := world.Interface{Name: "eth0", MTU: 1500}
	for _, a := range n.Addresses {
		eth0.Addresses = append(eth0.Addresses, netip.PrefixFrom(a, a.BitLen()-8))
	}
	k.Interfaces = []world.Interface{eth0}
	return k
}
