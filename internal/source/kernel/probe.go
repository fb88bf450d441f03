package kernel

import (
	"fairlead.dev/fairlead/internal/datapath/gate"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/world"
)

// Probe finds out what the kernel does, by doing it in a scratch namespace.
// Version numbers say nothing about it: distributions port features back.
func Probe() world.Capabilities {
	return world.Capabilities{FullyRandomPorts: tried(nft.ProbeFullyRandom), TCX: tried(gate.Probe), TCXEgress: tried(gate.ProbeEgress)}
}

func tried(probe func() error) world.Capability {
	if err := netns.Scratch(probe); err != nil {
		return world.Capability{Reason: err.Error()}
	}
	return world.Capability{OK: true}
}
