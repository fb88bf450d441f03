package agent

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/netnstest"
)

// What others set for single interfaces takes no network away: of the node's way out
// forwarding is kept, although ip_forward stays as it is.
func TestTheWayOutForwardsWhateverOthersSet(t *testing.T) {
	n := newNode(t, nodes)
	n.host.Route("0.0.0.0/0", "192.168.100.7")
	n.attach(t, "a", netnstest.New(t))
	n.mustTurn(t)
	const key = "net/ipv4/conf/eth0/forwarding"
	n.host.Sysctl(key, "0")
	if !n.looks(t) {
		t.Error("nobody sees that the way out forwards nothing")
	}
	n.host.Do(func() error {
		got, err := sysctl.Read(key)
		if got != "1" {
			t.Errorf("%s is %q", key, got)
		}
		return err
	})
}

// Links of ours have IPv6 where pods do, whatever new interfaces have.
func TestLinksHaveIPv6WhateverNewOnesHave(t *testing.T) {
	n := newNode(t, nodes)
	n.host.Sysctl("net/ipv6/conf/default/disable_ipv6", "1")
	pod := netnstest.New(t)
	a := n.attach(t, "a", pod)
	n.mustTurn(t)
	if s := n.snapshot.Load(); !s.Ready || len(s.Problems) > 0 {
		t.Fatalf("not ready: %s %v", s.Reason, s.Problems)
	}
	var l net.Listener
	pod.Do(func() (err error) {
		l, err = net.Listen("tcp6", netip.AddrPortFrom(a.Addresses[1], 8080).String())
		return err
	})
	defer l.Close()
	n.host.Do(func() error {
		c, err := net.DialTimeout("tcp6", l.Addr().String(), 10*time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	})
}
