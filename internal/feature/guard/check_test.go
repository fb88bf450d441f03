package guard_test

import (
	"context"
	"net/netip"
	"testing"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/feature/guard"
)

// Whoever forges is named, and nobody else: not for what every pod's kernel says.
func TestForgersAreNamed(t *testing.T) {
	onEachKernel(t, func(t *testing.T, k kind) {
		s := k.newSite(t, v1alpha1.AgentConfigSpec{})
		w := s.n1.Apply(v1alpha1.AgentConfigSpec{}, s.n2)
		ask := func() (found []doctor.Finding) {
			s.n1.Do(func() error {
				found = doctor.Run(context.Background(), doctor.Node{Subject: doctor.Subject{World: w}}, guard.Feature.Checks)
				return nil
			})
			return found
		}
		if f := ask(); len(f) != 1 || f[0].Status != doctor.OK {
			t.Errorf("nobody forged: %+v", f)
		}
		heard := listen(t, s.b.Host)
		for range 3 {
			forge(s.a.Host, netip.MustParseAddr("198.51.100.10"), s.b.Addresses[0], "forged")
		}
		forge(s.a.Host, s.a.Addresses[0], s.b.Addresses[0], last)
		heardUntilLast(t, heard)
		if f := ask(); len(f) != 1 || f[0].Status != doctor.Warn || f[0].Object != "Pod default/"+s.a.Pod || f[0].Evidence["packets"] != uint64(3) {
			t.Errorf("one pod forged three packets: %+v", f)
		}
	})
}
