package nft

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/netnstest"
)

func TestProbeFindsFullyRandomPorts(t *testing.T) {
	t.Parallel()
	netnstest.New(t).Do(ProbeFullyRandom)
}

// The probe must be able to say no: a rule without the flag is not taken for
// one with it, and a flag nobody has defined is refused.
func TestProbeTellsAKernelThatDropsTheFlag(t *testing.T) {
	t.Parallel()
	asked := Rule{L4Proto(unix.IPPROTO_TCP), Masquerade{Low: 32768, High: 60999, FullyRandom: true}}
	kept := Rule{L4Proto(unix.IPPROTO_TCP), Masquerade{Low: 32768, High: 60999}}
	table := &Table{Name: "t", Chains: []*Chain{{Name: "c", Type: NAT, Hook: Postrouting, Priority: 100, Rules: []Rule{kept}}}}
	h := netnstest.New(t)
	apply(t, h, table)
	h.Do(func() error {
		found, err := Read("t")
		if found[0].Chains[0].holds([]Rule{asked}) {
			t.Error("a rule without the flag is taken for one with it")
		}
		for bit := range 32 {
			err := Apply(addRules(table.id(), &Chain{Name: "c", Rules: []Rule{{masqueradeFlags(1 << bit)}}}))
			// The kernel's NF_NAT_RANGE_MASK has bits 0 to 6; a range without ports
			// is taken as none.
			if known := bit <= 6; known != (err == nil) || !known && !errors.Is(err, unix.EINVAL) {
				t.Errorf("flag %#x: %v", 1<<bit, err)
			}
		}
		return err
	})
}
