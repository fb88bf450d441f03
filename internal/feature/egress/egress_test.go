package egress_test

import (
	"testing"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/feature/egress"
	"fairlead.dev/fairlead/internal/scenario"
	"fairlead.dev/fairlead/internal/world"
)

func Test(t *testing.T) { scenario.Run(t, egress.Feature) }

// No pod gets the tunnel's port as a host port: the world knows its number by itself, since
// it knows nothing of the kernel.
func TestThePortOfTheTunnelIsTheNodesOwn(t *testing.T) {
	w := &world.World{Config: &world.Config{}, Egresses: &world.Sorted[world.Egress]{List: []*world.Egress{{}}}}
	port := world.HostPort{Port: datapath.EgressPort, Protocol: 17}
	if _, taken := w.Own(port); !taken {
		t.Errorf("%s is free, and the node has %v", port, w.OwnPorts())
	}
	w.Egresses.List = nil
	if _, taken := w.Own(port); taken {
		t.Errorf("%s is taken without an Egress", port)
	}
}
