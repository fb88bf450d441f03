package agent

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/world"
)

// A pod waits for its own wire and for the rules, and for nobody else's trouble.
func TestOnlyItsOwnFailuresFailAPod(t *testing.T) {
	failed := errors.New("failed")
	for _, c := range []struct {
		failure   datapath.Failure
		concerned bool
	}{
		{datapath.Failure{Kind: datapath.KindRules, Err: failed}, true},
		{datapath.Failure{Kind: datapath.KindLink, Link: "mine", Err: failed}, true},
		{datapath.Failure{Kind: datapath.KindRoute, Link: "mine", Err: failed}, true},
		{datapath.Failure{Kind: datapath.KindLink, Link: "another", Err: failed}, false},
		{datapath.Failure{Kind: datapath.KindSetting, Err: failed}, false},
		{datapath.Failure{Kind: datapath.KindRoute, Err: failed}, false},
	} {
		s := Snapshot{unapplied: "failed", Failures: datapath.Failures{c.failure}}
		if err := s.failure("mine"); (err != nil) != c.concerned {
			t.Errorf("%+v: %v", c.failure, err)
		}
	}
	if (&Snapshot{unapplied: "the objects cannot be read"}).failure("mine") == nil {
		t.Error("a turn that did not come to Apply made no wire")
	}
}

// Whatever one pod or one peer keeps from being made is that one's Problem.
func TestAFailureIsOfWhomItConcerns(t *testing.T) {
	a := &world.Attachment{Namespace: "default", Pod: "a", ContainerID: "a", Interface: "eth0"}
	wire := feature.Wire(a)
	peer := &world.Node{Name: "n2", Addresses: []netip.Addr{netip.MustParseAddr("192.168.100.2")}, PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.2.0/24")}}
	w := &world.World{Node: &world.Node{Name: "n1", PodCIDRs: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}}, Attachments: &world.Attachments{List: []*world.Attachment{a}}, Peers: &world.Peers{Nodes: []*world.Node{peer}}}
	for _, c := range []struct {
		failure datapath.Failure
		object  string // "": everybody
	}{
		{datapath.Failure{Kind: datapath.KindRules}, ""},
		{datapath.Failure{Kind: datapath.KindLink, Link: datapath.VXLANLink}, ""},
		{datapath.Failure{Kind: datapath.KindAddress, Link: datapath.VXLANLink}, ""},
		{datapath.Failure{Kind: datapath.KindSetting}, ""},
		{datapath.Failure{Kind: datapath.KindSetting, Link: "eth0"}, "Node n1"},
		{datapath.Failure{Kind: datapath.KindOffload, Link: datapath.VXLANLink}, "Node n1"},
		{datapath.Failure{Kind: datapath.KindLink, Link: wire}, "Pod default/a"},
		{datapath.Failure{Kind: datapath.KindLink, Link: datapath.IFBLink(wire)}, "Pod default/a"},
		{datapath.Failure{Kind: datapath.KindSetting, Link: wire}, "Pod default/a"},
		{datapath.Failure{Kind: datapath.KindForwarding, Link: datapath.VXLANLink, Addr: peer.Addresses[0]}, "Node n2"},
		{datapath.Failure{Kind: datapath.KindNeighbour, Link: datapath.VXLANLink, Addr: netip.MustParseAddr("10.244.2.1")}, "Node n2"},
		{datapath.Failure{Kind: datapath.KindRoute, Link: "eth0", Addr: netip.MustParseAddr("10.244.2.0")}, "Node n2"},
		{datapath.Failure{Kind: datapath.KindRoute, Addr: netip.MustParseAddr("10.244.1.0")}, ""},
		{datapath.Failure{Kind: datapath.KindRoute, Addr: netip.MustParseAddr("10.244.3.0")}, "Node n1"},
	} {
		c.failure.Err = errors.New("failed")
		s := &Snapshot{World: w, Failures: datapath.Failures{c.failure}}
		if got := s.everybodys(); got != (c.object == "") {
			t.Errorf("%+v concerns everybody: %v", c.failure, got)
		}
		if p := s.failed("n1"); c.object != "" && (len(p) != 1 || p[0].Object != c.object || !strings.Contains(p[0].Reason, "failed")) {
			t.Errorf("%+v: %v, want %s", c.failure, p, c.object)
		}
	}
	many := &Snapshot{World: w}
	for range 100 {
		many.Failures = append(many.Failures, datapath.Failure{Kind: datapath.KindRoute, Link: wire, Err: errors.New("failed")})
	}
	if p := many.failed("n1"); len(p) != 1 || !strings.HasSuffix(p[0].Reason, "and 97 more") {
		t.Errorf("%v", p)
	}
}
