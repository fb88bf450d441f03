package wire

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/lab/plan"
	"fairlead.dev/fairlead/internal/netns"
)

// Names in a firewall's namespace. Every judged packet ends in one of the two
// counting chains.
const (
	firewallTable = "lab-firewall"
	accepted      = "accepted"
	dropped       = "dropped"
)

// makeFirewall puts a namespace between the router and the firewall's segments.
func (n *Net) makeFirewall(i int) error {
	f := n.Plan.Firewalls[i]
	if err := n.namespace("fw-"+f.Name, forwards); err != nil {
		return err
	}
	err := netns.Do(n.Firewall(f.Name), func() error {
		if err := nft.Apply(nft.Diff(nil, []*nft.Table{Table(f)})); err != nil {
			return err
		}
		return n.segments(i)
	})
	if err != nil {
		return err
	}
	err = netns.Do(n.Router(), func() error { return n.plugFirewall(i) })
	if err != nil {
		return err
	}
	return netns.Do(n.Firewall(f.Name), func() error {
		return furnish(f.Own, plan.Network{Gateways: f.Router})
	})
}

// plugFirewall adds the router's end of the wire and its routes to the hosts.
func (n *Net) plugFirewall(i int) error {
	f := n.Plan.Firewalls[i]
	if err := addPair(pair{firewallPort(i), n.Firewall(f.Name), mac(firewallMAC, i)}); err != nil {
		return err
	}
	if err := setUp(firewallPort(i), f.Router); err != nil {
		return err
	}
	if err := setUpIn(n.Firewall(f.Name)); err != nil {
		return err
	}
	for _, s := range n.Plan.Segments {
		if s.Firewall != i {
			continue
		}
		for _, p := range s.Prefixes() {
			via, _ := plan.Address(f.Own, p.Addr())
			if err := addRoute(p, via, unix.RT_TABLE_MAIN); err != nil {
				return err
			}
		}
	}
	return podsFrom(firewallPort(i))
}

// setUpIn gives the wire a carrier: an IPv6 route needs one.
func setUpIn(path string) error {
	return netns.Do(path, func() error {
		dev, err := netlink.LinkByName(uplink)
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(dev)
	})
}

// Table is the firewall as nftables knows it.
func Table(f plan.Firewall) *nft.Table {
	var rules []nft.Rule
	for _, r := range f.Rules {
		rules = append(rules, lines(r)...)
	}
	for _, d := range []plan.Direction{plan.Out, plan.In} {
		rules = append(rules, nft.Rule{towards(d), verdict(f.Default)})
	}
	return &nft.Table{Name: firewallTable, Chains: []*nft.Chain{
		{Name: accepted, Rules: []nft.Rule{{nft.Counter(), nft.Accept()}}},
		{Name: dropped, Rules: []nft.Rule{{nft.Counter(), nft.Drop()}}},
		{Name: "forward", Type: nft.Filter, Hook: nft.Forward, Rules: rules},
	}}
}

// lines is one rule: a line for each of its protocols.
func lines(r plan.Rule) []nft.Rule {
	if r.Protocols == nil {
		return []nft.Rule{{towards(r.Direction), verdict(r.Action)}}
	}
	var out []nft.Rule
	for _, p := range r.Protocols {
		line := nft.Rule{towards(r.Direction), nft.L4Proto(p)}
		if r.High != 0 {
			line = append(line, nft.Dport(r.Low, r.High))
		}
		if len(r.Flags) > 0 {
			line = append(line, nft.TCPFlags(flags(r.Flags)))
		}
		out = append(out, append(line, verdict(r.Action)))
	}
	return out
}

func flags(names []string) nft.TCPFlag {
	var out nft.TCPFlag
	for i, name := range plan.TCPFlags {
		for _, n := range names {
			if n == name {
				out |= 1 << i
			}
		}
	}
	return out
}

func towards(d plan.Direction) nft.Expr {
	if d == plan.In {
		return nft.OIFName(uplink)
	}
	return nft.IIFName(uplink)
}

func verdict(a plan.Action) nft.Expr {
	if a == plan.Drop {
		return nft.Goto(dropped)
	}
	return nft.Goto(accepted)
}

// Judged returns how many packets the named firewall let through and how many
// it did not.
func (n *Net) Judged(firewall string) (accept, drop uint64, err error) {
	err = netns.Do(n.Firewall(firewall), func() error {
		tables, err := nft.Read(firewallTable)
		for _, t := range tables {
			accept, drop = accept+t.Packets(accepted), drop+t.Packets(dropped)
		}
		return err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("firewall %s: %w", firewall, err)
	}
	return accept, drop, nil
}
