package flows

import (
	"log/slog"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/conntrack"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/world"
)

// Which connections are forgotten follows from what leads where now, and what changed.
func TestWhatIsForgotten(t *testing.T) {
	at := netip.MustParseAddrPort
	lead := func(port uint16, to string) feature.Lead {
		return feature.Lead{Port: world.HostPort{Port: port, Protocol: unix.IPPROTO_UDP, PodPort: 5353}, To: at(to)}
	}
	const a, b = "10.0.0.2:5353", "10.0.0.3:5353"
	w := &world.World{Node: &world.Node{Name: "n1"}, Kernel: &world.Kernel{Interfaces: []world.Interface{
		{Name: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}}}}}
	for name, c := range map[string]struct {
		changed, lead []feature.Lead
		to, from      string // the connection: where it goes, and who answers
		want          bool
	}{
		"to a pod that is gone":        {[]feature.Lead{lead(53, a)}, nil, "192.0.2.1:53", a, true},
		"to another pod":               {[]feature.Lead{lead(53, a)}, nil, "192.0.2.1:53", b, false},
		"past a pod that came":         {[]feature.Lead{lead(53, a)}, []feature.Lead{lead(53, a)}, "192.0.2.1:53", "192.0.2.1:53", true},
		"to the pod that came":         {[]feature.Lead{lead(53, a)}, []feature.Lead{lead(53, a)}, "192.0.2.1:53", a, false},
		"to another port":              {[]feature.Lead{lead(53, a)}, []feature.Lead{lead(53, a)}, "192.0.2.1:54", "192.0.2.1:54", false},
		"to no address of the node":    {[]feature.Lead{lead(53, a)}, []feature.Lead{lead(53, a)}, "192.0.2.9:53", "192.0.2.9:53", false},
		"from one pod to the next one": {[]feature.Lead{lead(53, a), lead(53, b)}, []feature.Lead{lead(53, b)}, "192.0.2.1:53", a, true},
	} {
		r := NewRedirector(slog.New(slog.DiscardHandler))
		forgotten, asked := false, 0
		r.Forget = func(_ *conntrack.Table, f conntrack.Filter, stale func(*conntrack.Entry) bool) (int, error) {
			if asked++; f.Original.Destination.Port() != 53 || f.Protocol != unix.IPPROTO_UDP {
				t.Errorf("%s: asked for %+v", name, f)
			}
			e := &conntrack.Entry{Protocol: unix.IPPROTO_UDP}
			e.Original.Destination, e.Reply.Source = at(c.to), at(c.from)
			forgotten = stale(e)
			return 0, nil
		}
		set := func(list []feature.Lead) map[feature.Lead]bool {
			out := map[feature.Lead]bool{}
			for _, l := range list {
				out[l] = true
			}
			return out
		}
		if err := r.cut(nil, set(c.changed), set(c.lead), w); err != nil || asked != 1 || forgotten != c.want {
			t.Errorf("a connection %s: forgotten %t, asked %d times, %v", name, forgotten, asked, err)
		}
	}
}
