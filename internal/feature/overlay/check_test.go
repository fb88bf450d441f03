package overlay

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/reach"
	"fairlead.dev/fairlead/internal/world"
)

// A cluster of dead peers is not waited for one by one, and the doctor says so.
func TestOfManyDeadPeersSomeAreAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := make([]reach.Path, 5000)
		began := time.Now()
		errs := askInTurn(t.Context(), all, func(ctx context.Context, _ reach.Path) error {
			<-ctx.Done()
			return errors.New("no answer")
		})
		if took := time.Since(began); took > 10*time.Second || len(errs) < atOnce || len(errs) == len(all) {
			t.Errorf("asked %d in %s", len(errs), took)
		}
		found := findings(all, errs, 1450)
		last := found[len(found)-1]
		if len(found) != len(errs)+1 || last.Status != doctor.Warn || last.Evidence["paths"] != len(all) || last.Evidence["asked"] != len(errs) {
			t.Errorf("%d findings of %d asked, the last of which is %+v", len(found), len(errs), last)
		}
	})
}

func TestAStrictReversePathFilterIsWarnedOf(t *testing.T) {
	t.Parallel()
	address := netip.MustParseAddr("192.168.100.1")
	for _, tt := range []struct {
		all, own string
		mode     world.OverlayMode
		want     doctor.Status
	}{
		{"0", "0", world.VXLAN, doctor.OK},
		{"1", "0", world.VXLAN, doctor.Warn},
		{"0", "1", world.Hybrid, doctor.Warn},
		{"1", "2", world.VXLAN, doctor.OK},
		{"1", "1", world.Direct, doctor.OK},
	} {
		h, far := netnstest.New(t), netnstest.New(t)
		netnstest.Wire(h, "eth0", far, "eth0")
		h.Sysctl("net/ipv4/conf/all/rp_filter", tt.all, "net/ipv4/conf/eth0/rp_filter", tt.own)
		w := &world.World{
			Node:   &world.Node{Name: "n1", Addresses: []netip.Addr{address}, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}},
			Config: &world.Config{Overlay: world.Overlay{Mode: tt.mode}},
			Kernel: &world.Kernel{Interfaces: []world.Interface{{Name: "eth0", MTU: 1500, Addresses: []netip.Prefix{netip.PrefixFrom(address, 24)}}}},
		}
		h.Do(func() error {
			found := reversePath.Look(t.Context(), doctor.Node{Subject: doctor.Subject{World: w}})
			if len(found) != 1 || found[0].Status != tt.want || tt.want == doctor.Warn && !strings.Contains(found[0].Hint, "eth0") {
				t.Errorf("%+v: %+v", tt, found)
			}
			return nil
		})
	}
}
