package datapath_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/link"
	"fairlead.dev/fairlead/internal/netnstest"
)

// naive is what a node may give every new interface by default, and what no link of
// ours may be left with.
var naive = map[string]string{
	"ipv4/accept_local": "1", "ipv4/accept_redirects": "1", "ipv4/accept_source_route": "1", "ipv4/arp_accept": "1",
	"ipv4/arp_ignore": "0", "ipv4/bc_forwarding": "1", "ipv4/forwarding": "0", "ipv4/proxy_arp": "1", "ipv4/proxy_arp_pvlan": "1",
	"ipv4/route_localnet": "1", "ipv4/send_redirects": "1",
	"ipv6/accept_ra": "2", "ipv6/accept_redirects": "1", "ipv6/accept_source_route": "1", "ipv6/autoconf": "1",
	"ipv6/forwarding": "0", "ipv6/proxy_ndp": "1",
}

// wise are the same settings of a link of ours that leads to both families.
var wise = map[string]string{
	"ipv4/accept_local": "0", "ipv4/accept_redirects": "0", "ipv4/accept_source_route": "0", "ipv4/arp_accept": "0",
	"ipv4/arp_ignore": "8", "ipv4/bc_forwarding": "0", "ipv4/forwarding": "1", "ipv4/proxy_arp": "0", "ipv4/proxy_arp_pvlan": "0",
	"ipv4/route_localnet": "0", "ipv4/send_redirects": "0",
	"ipv6/accept_ra": "0", "ipv6/accept_redirects": "0", "ipv6/accept_source_route": "0", "ipv6/addr_gen_mode": "1",
	"ipv6/autoconf": "0", "ipv6/forwarding": "1", "ipv6/proxy_ndp": "0",
}

func confFile(family, link, name string) string {
	return filepath.Join("/proc/sys/net", family, "conf", link, name)
}

// believing are one link of each kind.
func believing(t *testing.T) (*netnstest.Host, datapath.State) {
	t.Helper()
	h, pod := netnstest.New(t), netnstest.New(t)
	four, six := netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("fd00::2")
	return h, datapath.State{{Links: []*link.Link{
		{Name: datapath.VXLANLink, MTU: 1450, MAC: [6]byte{2, 0, 0, 0, 0, 1}, VXLAN: &link.VXLAN{VNI: 1, Port: 4789, Local: netip.MustParseAddr("192.0.2.1")},
			Addresses: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32"), netip.MustParsePrefix("fd00::1/128")}},
		{Name: "fl-000000000001", MTU: 1450, MAC: datapath.WireMAC, Veth: &link.Veth{Netns: pod.Path,
			Peer: link.Peer{Name: "eth0", MAC: [6]byte{2, 0, 0, 0, 0, 2}, Addresses: []netip.Addr{four, six}}}},
		{Name: "fl-i00000000001", MTU: 1450, MAC: [6]byte{2, 0, 0, 0, 0, 3}, IFB: true},
	}}}
}

func hold(t *testing.T, h *netnstest.Host, want datapath.State) (changes datapath.Changes) {
	t.Helper()
	h.Do(func() error {
		have, err := datapath.Read(want)
		if err != nil {
			return err
		}
		changes = datapath.Diff(have, want)
		return datapath.Apply(changes)
	})
	return changes
}

func expectWise(t *testing.T, h *netnstest.Host, want datapath.State) {
	t.Helper()
	h.Do(func() error {
		for _, l := range want[0].Links {
			for key, value := range wise {
				family, name, _ := strings.Cut(key, "/")
				b, err := os.ReadFile(confFile(family, l.Name, name))
				if err != nil {
					return err
				}
				if got := strings.TrimSpace(string(b)); got != value && (name != "forwarding" || !l.IFB) {
					t.Errorf("%s: %s is %s, want %s", l.Name, key, got, value)
				}
			}
		}
		return nil
	})
}

// What a node gives new interfaces by default is not what a link of ours has.
func TestLinksOfOursBelieveNobody(t *testing.T) {
	t.Parallel()
	h, want := believing(t)
	for key, value := range naive {
		family, name, _ := strings.Cut(key, "/")
		h.Sysctl("net/"+family+"/conf/default/"+name, value)
	}
	hold(t, h, want)
	expectWise(t, h, want)
	if c := hold(t, h, want); !c.Empty() {
		t.Errorf("made twice, the second time changes:\n%s", c)
	}
}

// Each setting is looked at, and each that somebody changes is put back, alone.
func TestLinksOfOursAreKeptFromBelieving(t *testing.T) {
	t.Parallel()
	h, want := believing(t)
	hold(t, h, want)
	settled := func() (ok bool) {
		h.Do(func() (err error) {
			ok, err = want.Settled()
			return err
		})
		return ok
	}
	if !settled() {
		t.Error("nobody changed anything, and it is not as it should be")
	}
	for _, l := range want[0].Links {
		for key, value := range naive {
			family, name, _ := strings.Cut(key, "/")
			if name == "forwarding" && l.IFB {
				continue
			}
			h.Sysctl("net/"+family+"/conf/"+l.Name+"/"+name, value)
			if settled() {
				t.Errorf("%s: %s=%s is not seen", l.Name, key, value)
			}
			if c := hold(t, h, want); c.Len() != 1 {
				t.Errorf("%s: %s=%s is mended by\n%s", l.Name, key, value, c)
			}
		}
	}
	expectWise(t, h, want)
}

// What is asked every second is cheap with as many pods as a node has.
func BenchmarkSettled(b *testing.B) {
	h, pod := netnstest.New(b), netnstest.New(b)
	var want datapath.Part
	for i := range 250 {
		name := "fl-" + strings.Repeat("0", 9) + string([]byte{'0' + byte(i/100), '0' + byte(i/10%10), '0' + byte(i%10)})
		want.Links = append(want.Links, &link.Link{Name: name, MTU: 1450, MAC: datapath.WireMAC, Veth: &link.Veth{Netns: pod.Path,
			Peer: link.Peer{Name: name, MAC: [6]byte{2, 0, 0, 0, 1, byte(i)}, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2")}}}})
	}
	state := datapath.State{&want}
	h.Do(func() error { return datapath.Apply(datapath.Diff(datapath.Kernel{}, state)) })
	h.Do(func() error {
		for b.Loop() {
			if ok, err := state.Settled(); err != nil || !ok {
				return err
			}
		}
		return nil
	})
}
