package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// The wires between router and firewalls: a piece for each firewall.
var transit = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8:ffff::/48")}

// transitBits are the lengths of these pieces.
var transitBits = []int{30, 64}

// maxFirewalls are as many as the IPv4 transit network has pieces.
const maxFirewalls = 64

func (r *reader) firewalls(list []FirewallConfig) []Firewall {
	names(r, "firewalls", list, func(f FirewallConfig) string { return f.Name })
	if len(list) > maxFirewalls {
		r.problem("firewalls", fmt.Sprintf("has %d", len(list)), fmt.Sprintf("a lab has up to %d", maxFirewalls))
		return nil
	}
	var out []Firewall
	for i, f := range list {
		field := fmt.Sprintf("firewalls[%d]", i)
		fw := Firewall{Name: f.Name, Default: Accept}
		if f.Default != "" {
			fw.Default = r.action(field+".default", f.Default)
		}
		for j, rule := range f.Rules {
			fw.Rules = append(fw.Rules, r.rule(fmt.Sprintf("%s.rules[%d]", field, j), rule))
		}
		for k, t := range transit {
			piece, _ := subnet(t, transitBits[k], i)
			router, _ := at(piece, 1)
			own, _ := at(piece, 2)
			fw.Router = append(fw.Router, netip.PrefixFrom(router, piece.Bits()))
			fw.Own = append(fw.Own, netip.PrefixFrom(own, piece.Bits()))
		}
		out = append(out, fw)
	}
	return out
}

func (r *reader) action(field, s string) Action {
	if s != string(Accept) && s != string(Drop) {
		r.problem(field, fmt.Sprintf("is %q", s), "write accept or drop")
	}
	return Action(s)
}

var protocols = map[string][]byte{
	"tcp": {unix.IPPROTO_TCP}, "udp": {unix.IPPROTO_UDP}, "sctp": {unix.IPPROTO_SCTP},
	"icmp": {unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6},
}

// TCPFlags are the names of the flags of a TCP header, the lowest bit first;
// RFC 9293 section 3.1.
var TCPFlags = []string{"fin", "syn", "rst", "psh", "ack", "urg"}

func (r *reader) rule(field string, c RuleConfig) Rule {
	out := Rule{Direction: Direction(c.Direction), Action: r.action(field+".action", c.Action), Flags: c.TCPFlags}
	if out.Direction != In && out.Direction != Out {
		r.problem(field+".direction", fmt.Sprintf("is %q", c.Direction), "write in (towards the cluster) or out")
	}
	if c.Protocol != "" {
		out.Protocols = protocols[c.Protocol]
		if out.Protocols == nil {
			r.problem(field+".protocol", fmt.Sprintf("is %q", c.Protocol), "write tcp, udp, sctp or icmp")
		}
	}
	if c.Ports != "" {
		var ok bool
		if out.Low, out.High, ok = ports(string(c.Ports)); !ok {
			r.problem(field+".ports", fmt.Sprintf("is %q", c.Ports), "write a port or LOW-HIGH, from 1 to 65535")
		}
		if c.Protocol == "" || c.Protocol == "icmp" {
			r.problem(field+".ports", "stands without a protocol that has ports", "add protocol: tcp, udp or sctp")
		}
	}
	for i, f := range c.TCPFlags {
		if !slices.Contains(TCPFlags, f) {
			r.problem(fmt.Sprintf("%s.tcpFlags[%d]", field, i), fmt.Sprintf("is %q", f), "flags are "+strings.Join(TCPFlags, ", "))
		}
	}
	if len(c.TCPFlags) > 0 && c.Protocol != "tcp" {
		r.problem(field+".tcpFlags", "stands without protocol tcp", "add protocol: tcp")
	}
	return out
}

func ports(s string) (low, high uint16, ok bool) {
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	l, err := strconv.ParseUint(first, 10, 16)
	h, err2 := strconv.ParseUint(last, 10, 16)
	return uint16(l), uint16(h), err == nil && err2 == nil && 0 < l && l <= h
}

// hosts adds the hosts to p, and the segments: hosts that share a network share
// a wire.
func (r *reader) hosts(c Config, p *Plan) {
	names(r, "hosts", c.Hosts, func(h HostConfig) string { return h.Name })
	used := map[netip.Addr]bool{}
	for i, h := range c.Hosts {
		field := fmt.Sprintf("hosts[%d]", i)
		firewall := Direct
		if h.Behind != "" {
			firewall = slices.IndexFunc(p.Firewalls, func(f Firewall) bool { return f.Name == h.Behind })
			if firewall < 0 {
				r.problem(field+".behind", fmt.Sprintf("%q is no firewall", h.Behind), "define it in firewalls")
			}
		}
		host := Host{Name: h.Name, Addresses: r.hostAddresses(field, h.Addresses)}
		for _, a := range host.Addresses {
			if used[a.Addr()] {
				r.problem(field+".addresses", fmt.Sprintf("%s is there twice", a.Addr()), "give each host its own")
			}
			used[a.Addr()] = true
		}
		host.Segment = r.segment(field, p, host.Addresses, firewall)
		p.Hosts = append(p.Hosts, host)
	}
	for _, s := range p.Segments {
		for _, g := range s.Gateways {
			r.claim("hosts", g.Masked())
		}
	}
}

func (r *reader) hostAddresses(field string, list []string) []netip.Prefix {
	var out []netip.Prefix
	if len(list) == 0 {
		r.problem(field+".addresses", "is empty", "write at least one, such as 198.51.100.10/24")
	}
	for i, s := range list {
		at := fmt.Sprintf("%s.addresses[%d]", field, i)
		a, err := netip.ParsePrefix(s)
		switch {
		case err != nil:
			r.problem(at, fmt.Sprintf("%q is no address with a length", s), "such as 198.51.100.10/24")
			continue
		case !roomy(a):
			r.problem(at, fmt.Sprintf("%s has no room for a gateway", a.Masked()), "shorten the length")
			continue
		case a.Addr() == a.Masked().Addr() || a.Addr().Is4() && a.Addr() == broadcast(a):
			r.problem(at, fmt.Sprintf("%s is no address of a host", a.Addr()), "take another of "+a.Masked().String())
		}
		out = append(out, a)
	}
	slices.SortStableFunc(out, byFamily)
	return out
}

func broadcast(p netip.Prefix) netip.Addr {
	a, _ := at(p, lastOffset(p)+1)
	return a
}

// segment finds the wire of a host, or adds one. The networks stand in
// Gateways, for now without an address of the gateway.
func (r *reader) segment(field string, p *Plan, addresses []netip.Prefix, firewall int) int {
	found := -1
	for i, s := range p.Segments {
		for _, a := range addresses {
			if !slices.Contains(s.Gateways, a.Masked()) {
				continue
			}
			if found >= 0 && found != i {
				r.problem(field+".addresses", "are in networks of two wires", "list the networks of a wire on its first host")
			} else if s.Firewall != firewall {
				r.problem(field+".behind", fmt.Sprintf("%s is on the other side of a firewall", a.Masked()), "keep the hosts of a network together")
			}
			found = i
		}
	}
	if found < 0 {
		p.Segments = append(p.Segments, Segment{Firewall: firewall})
		found = len(p.Segments) - 1
	}
	s := &p.Segments[found]
	for _, a := range addresses {
		if !slices.Contains(s.Gateways, a.Masked()) {
			s.Gateways = append(s.Gateways, a.Masked())
		}
	}
	return found
}

// gateways gives every segment's gateway its addresses: the last usable ones
// that no host has.
func (p *Plan) gateways() {
	used := map[netip.Addr]bool{}
	for _, h := range p.Hosts {
		for _, a := range h.Addresses {
			used[a.Addr()] = true
		}
	}
	for _, s := range p.Segments {
		for i, network := range s.Gateways {
			for n := lastOffset(network); n > 0; n-- {
				if g, ok := at(network, n); ok && !used[g] {
					s.Gateways[i] = netip.PrefixFrom(g, network.Bits())
					break
				}
			}
		}
	}
}
