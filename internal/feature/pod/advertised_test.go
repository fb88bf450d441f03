package pod

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/world"
)

// Which interfaces take advertisements, and what the doctor says of each.
func TestWhoTakesAdvertisements(t *testing.T) {
	t.Parallel()
	address := netip.MustParseAddr("192.168.100.1")
	nodes := []netip.Prefix{netip.PrefixFrom(address, 24)}
	for name, tt := range map[string]struct {
		now    string // accept_ra
		i      world.Interface
		router bool
		ipv4   bool // alone
		takes  bool
		says   string // "": nothing
	}{
		"what has an address by one":     {now: "1", i: world.Interface{Advertised: true}, router: true, takes: true, says: "FAIL what it has"},
		"the machine's":                  {now: "1", i: world.Interface{Hardware: true}, takes: true, says: "FAIL what it has"},
		"the Node's":                     {now: "1", i: world.Interface{Addresses: nodes}, takes: true, says: "FAIL what it has"},
		"what does already":              {now: "2", i: world.Interface{Hardware: true}, takes: true, says: "OK it accepts router advertisements"},
		"what did before, of a router":   {now: "2", i: world.Interface{}, router: true, takes: true, says: "OK it accepts router advertisements"},
		"the machine's, of a router":     {now: "1", i: world.Interface{Hardware: true}, router: true, says: "OK it accepts no router advertisements"},
		"what is down, maybe not named":  {now: "1", i: world.Interface{Hardware: true, Down: true}},
		"what may lead to a pod":         {now: "1", i: world.Interface{}},
		"a daemon's":                     {now: "0", i: world.Interface{Hardware: true, Advertised: true}, says: "OK the kernel accepts no router advertisements (accept_ra is 0)"},
		"what is closed":                 {now: "0", i: world.Interface{Hardware: true}},
		"any, without IPv6":              {now: "1", i: world.Interface{Hardware: true, Advertised: true}, ipv4: true},
		"what nobody looked at":          {i: world.Interface{Hardware: true, Advertised: true}},
		"with another address, a bridge": {now: "1", i: world.Interface{Addresses: []netip.Prefix{netip.MustParsePrefix("172.17.0.1/16")}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := netnstest.New(t)
			netnstest.Wire(h, "eth0", netnstest.New(t), "eth0")
			i := tt.i
			i.Name = "eth0"
			known := map[string]string{}
			if tt.now != "" {
				known["eth0"] = tt.now
			}
			cidrs := []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24"), netip.MustParsePrefix("fd00:10:244:1::/64")}
			if tt.ipv4 {
				cidrs = cidrs[:1]
			}
			w := &world.World{Node: &world.Node{Name: "n1", Addresses: []netip.Addr{address}, PodCIDRs: cidrs}, Attachments: &world.Attachments{},
				Kernel: &world.Kernel{Interfaces: []world.Interface{i}, AcceptRA: known, Router: tt.router}}
			settings := render(w).Part.Settings
			at := slices.IndexFunc(settings, func(s sysctl.Setting) bool { return strings.HasSuffix(s.Key, "eth0/accept_ra") })
			if at >= 0 != tt.takes || at > 0 {
				t.Errorf("settings are %v", settings) // it comes before forwarding
			}
			if tt.now != "" {
				h.Sysctl("net/ipv6/conf/eth0/accept_ra", tt.now)
			}
			h.Do(func() error {
				f := doctor.Run(t.Context(), doctor.Node{Subject: doctor.Subject{World: w}}, []doctor.Check{routerAdvertisements})[0]
				said := strings.ToUpper(string(f.Status)) + " " + f.Message
				if tt.says == "" && f.Object != "" || !strings.HasPrefix(said, tt.says) {
					t.Errorf("said is %+v", f)
				}
				return nil
			})
		})
	}
}
