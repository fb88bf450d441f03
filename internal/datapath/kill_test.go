package datapath_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/link"
	"fairlead.dev/fairlead/internal/datapath/neigh"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/datapath/route"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/datapath/tc"
	"fairlead.dev/fairlead/internal/netnstest"
)

// otherNode is a state that shares with wholeNode what a change of settings and
// some time leave: the VNI, the peer and a pod are others, and the pod that stays
// is not held to its rates any more.
func otherNode(stays, comes string) datapath.State {
	const name = "fl-ba9876543210"
	addr, prefix := netip.MustParseAddr, netip.MustParsePrefix
	p := wholeNode(stays)[0]
	p.Tables = []*nft.Table{{Name: datapath.TablePrefix + "other", Chains: []*nft.Chain{{
		Name: "postrouting", Type: nft.NAT, Hook: nft.Postrouting, Priority: datapath.SNATPriority, Rules: []nft.Rule{{nft.Masquerade{}}},
	}}}}
	overlay := *p.Links[1]
	overlay.VXLAN = &link.VXLAN{VNI: 2, Port: 4789, Local: addr("192.168.100.1")}
	overlay.MTU, overlay.NoTXChecksumOffload = 1400, false
	stayed := *p.Links[0]
	stayed.MTU = 1400
	added := pod(name, comes, addr("10.244.1.3"))
	added.Links[0].MTU = 1400
	ifb := &link.Link{Name: datapath.IFBLink(name), MTU: 1400, MAC: datapath.WireMAC, IFB: true}
	p.Links = []*link.Link{&stayed, &overlay, added.Links[0], ifb}
	p.Neighbours = append(slices.Concat(p.Neighbours[:2], added.Neighbours),
		neigh.Neighbour{Link: overlay.Name, Addr: addr("192.168.100.3"), MAC: [6]byte{2, 0, 0, 0, 0, 4}, Forward: true},
		neigh.Neighbour{Link: overlay.Name, Addr: addr("10.244.3.1"), MAC: [6]byte{2, 0, 0, 0, 0, 4}})
	p.Routes = append(slices.Concat(p.Routes[:4], added.Routes),
		route.Route{Dst: prefix("10.244.2.0/24")},
		route.Route{Dst: prefix("10.244.3.0/24"), Via: addr("10.244.3.1"), Link: overlay.Name, OnLink: true})
	p.Rules = append(p.Rules[:1:1], route.Rule{Priority: datapath.NodesPriority, From: prefix("10.244.1.0/24"), Table: 158})
	p.Shapers = []tc.Shaper{{Link: name, Rate: 5e6, Burst: 1e6}, {Link: ifb.Name, Rate: 6e6, Burst: 1e6}}
	p.Redirects = []tc.Redirect{{Link: name, To: ifb.Name}}
	p.Settings = append(p.Settings, sysctl.Setting{Key: "net/ipv4/conf/fl-vxlan/rp_filter", Value: "0"})
	return datapath.State{p}
}

// A bed is a node and two pods.
type bed struct{ node, one, two *netnstest.Host }

func newBed(t *testing.T) bed {
	t.Helper()
	return bed{netnstest.New(t), netnstest.New(t), netnstest.New(t)}
}

func (b bed) whole() datapath.State { return wholeNode(b.one.Path) }
func (b bed) other() datapath.State { return otherNode(b.one.Path, b.two.Path) }

func (b bed) listing(t *testing.T) []string {
	t.Helper()
	return slices.Concat(listing(t, b.node), listing(t, b.one), listing(t, b.two))
}

// restarts is what an agent does that comes back: it looks, and makes it so.
func (b bed) restarts(t *testing.T, want datapath.State, as []string) {
	t.Helper()
	apply(b.node, want)
	if left := diff(b.node, want); !left.Empty() {
		t.Errorf("still to do:\n%s", left)
	}
	if d := cmp.Diff(as, b.listing(t)); d != "" {
		t.Errorf("not as if nobody had been killed (-want +got):\n%s", d)
	}
}

// Wherever Apply is killed, the next one comes to the same.
func TestKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	for name, way := range map[string]struct{ from, to func(bed) datapath.State }{
		"from nothing":              {func(bed) datapath.State { return nil }, bed.whole},
		"to nothing":                {bed.whole, func(bed) datapath.State { return nil }},
		"from one state to another": {bed.whole, bed.other},
		"and back":                  {bed.other, bed.whole},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sample := newBed(t)
			apply(sample.node, way.from(sample))
			stops := diff(sample.node, way.to(sample)).Stops()
			apply(sample.node, way.to(sample))
			want := sample.listing(t)
			for stop := range stops {
				t.Run(fmt.Sprint(stop), func(t *testing.T) {
					t.Parallel()
					b := newBed(t)
					apply(b.node, way.from(b))
					c := diff(b.node, way.to(b)).Until(stop)
					b.node.Do(func() error { return datapath.Apply(c) })
					b.restarts(t, way.to(b), want)
				})
			}
		})
	}
}

// Changes outside of nftables are made of several requests. Their text has one
// command for each, so a step that was killed halfway is one of which only some
// commands were given.
func TestKilledWithinAStep(t *testing.T) {
	t.Parallel()
	sample := newBed(t)
	apply(sample.node, sample.whole())
	want := sample.listing(t)
	lines := strings.Split(strings.TrimSpace(sample.whole().IP()), "\n")
	for stop := range lines {
		t.Run(fmt.Sprint(stop), func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			for _, line := range strings.Split(b.whole().IP(), "\n")[:stop] {
				run(t, b.node, strings.Replace(line, "sysctl -w", "sysctl", 1))
			}
			b.restarts(t, b.whole(), want)
		})
	}
}
