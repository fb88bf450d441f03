package kernel

import (
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/world"
)

// Probe finds out what the kernel does, by doing it in a scratch namespace.
// Version numbers say nothing about it: distributions port features back.
func Probe() world.Capabilities {
	var c world.Capabilities
	err := netns.Scratch(nft.ProbeFullyRandom)
	if err != nil {
		c.FullyRandomPorts.Reason = err.Error()
	} else {
		c.FullyRandomPorts.OK = true
	}
	return c
}
