package plan

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

var compare = []cmp.Option{
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmpopts.EquateEmpty(),
}

func TestAnEmptyFileIsTheDefaultLab(t *testing.T) {
	got, problems := Parse("lab.yaml", nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := &Plan{
		Nodes: []Node{
			{Name: "n1", Addresses: prefixes("192.168.100.1/24", "fd00:100::1/64"), PodCIDRs: prefixes("10.244.1.0/24", "fd00:10:244:1::/64")},
			{Name: "n2", Addresses: prefixes("192.168.100.2/24", "fd00:100::2/64"), PodCIDRs: prefixes("10.244.2.0/24", "fd00:10:244:2::/64")},
			{Name: "n3", Addresses: prefixes("192.168.100.3/24", "fd00:100::3/64"), PodCIDRs: prefixes("10.244.3.0/24", "fd00:10:244:3::/64")},
		},
		Underlays: []Underlay{{Network: Network{prefixes("192.168.100.254/24", "fd00:100::fffe/64")}}},
		Hosts:     []Host{{Name: "web", Addresses: prefixes("198.51.100.10/24", "2001:db8:100::10/64")}},
		Segments:  []Segment{{Network: Network{prefixes("198.51.100.254/24", "2001:db8:100::fffe/64")}, Firewall: Direct}},
	}
	if d := cmp.Diff(want, got, compare...); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestEverythingThatCanBeWritten(t *testing.T) {
	got, problems := Parse("lab.yaml", []byte(`
apiVersion: lab.fairlead.dev/v1alpha1
kind: Lab
nodes: [{name: a}, {name: b, underlay: east}]
podCIDRs: [fd01::/48, 10.1.0.0/16]
underlays: [{name: west, cidrs: [192.168.7.0/24]}, {name: east, cidrs: [fd00:8::/64], sourceCheck: true}]
hosts:
- {name: web, addresses: [198.51.100.254/24], behind: fw}
- {name: db, addresses: [198.51.100.9/24], behind: fw}
- {name: free, addresses: [203.0.113.10/24]}
firewalls:
- name: fw
  default: drop
  rules:
  - {direction: out, protocol: icmp, action: accept}
  - {direction: in, protocol: tcp, ports: 32768-65535, tcpFlags: [ack, rst], action: accept}
  - {direction: in, protocol: udp, ports: 53, action: drop}
agent: {nodeSNATRandomizePorts: true}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	yes := true
	want := &Plan{
		Nodes: []Node{
			{Name: "a", Addresses: prefixes("192.168.7.1/24"), PodCIDRs: prefixes("10.1.1.0/24", "fd01:0:0:1::/64")},
			{Name: "b", Underlay: 1, Addresses: prefixes("fd00:8::2/64"), PodCIDRs: prefixes("10.1.2.0/24", "fd01:0:0:2::/64")},
		},
		Underlays: []Underlay{{Network: Network{prefixes("192.168.7.254/24")}}, {Network: Network{prefixes("fd00:8::fffe/64")}, SourceCheck: true}},
		Hosts: []Host{
			{Name: "web", Addresses: prefixes("198.51.100.254/24")}, {Name: "db", Addresses: prefixes("198.51.100.9/24")},
			{Name: "free", Addresses: prefixes("203.0.113.10/24"), Segment: 1},
		},
		Segments: []Segment{{Network{prefixes("198.51.100.253/24")}, 0}, {Network{prefixes("203.0.113.254/24")}, Direct}},
		Firewalls: []Firewall{{
			Name: "fw", Router: prefixes("192.0.2.1/30", "2001:db8:ffff::1/64"), Own: prefixes("192.0.2.2/30", "2001:db8:ffff::2/64"), Default: Drop,
			Rules: []Rule{
				{Direction: Out, Action: Accept, Protocols: []byte{1, 58}},
				{Direction: In, Action: Accept, Protocols: []byte{6}, Low: 32768, High: 65535, Flags: []string{"ack", "rst"}},
				{Direction: In, Action: Drop, Protocols: []byte{17}, Low: 53, High: 53},
			},
		}},
	}
	want.Agent.NodeSNATRandomizePorts = &yes
	if d := cmp.Diff(want, got, compare...); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestMistakesNameTheirField(t *testing.T) {
	for written, want := range map[string]string{
		"nodes: 0":                                        "nodes: is 0",
		"nodes: []":                                       "nodes: has 0 nodes",
		"nodes: 251":                                      "nodes: is 251",
		"nodes: [{name: N1}]":                             `nodes[0].name: "N1" is no name`,
		"nodes: [{name: a, undrelay: x}]":                 "nodes[0].undrelay: is not a field of Lab (fields there are name, underlay)",
		"nodes: [{name: a}, {name: a}]":                   `nodes[1].name: "a" is there twice`,
		"nodes: [{name: a, underlay: mars}]":              `nodes[0].underlay: "mars" is no underlay`,
		"nodes: three":                                    "nodes: is a string (write how many, or a list)",
		"podCIDRs: [10.0.0.0/25]":                         "nodes[0]: 10.0.0.0/25 has no /24 number 1",
		"podCIDRs: [10.0.0.1/16]":                         "write 10.0.0.0/16",
		"podCIDRs: [10.0.0.0/16, 10.1.0.0/16]":            "second of its family",
		"podCIDRs: [ten]":                                 `podCIDRs[0]: "ten" is no CIDR`,
		"podCIDRs: [192.168.0.0/16]":                      "overlaps 192.168.100.0/24 of underlays[0].cidrs[0]",
		"underlays: []":                                   "underlays: is empty",
		"underlays: [{name: a, cidrs: [192.168.1.0/30]}]": "has no room for node number 2",
		"underlays: [{name: a, cidrs: [192.168.1.0/31]}]": "is too small",
		"hosts: [{name: h, addresses: []}]":               "hosts[0].addresses: is empty",
		"hosts: [{name: h, addresses: [1.2.3.4]}]":        `"1.2.3.4" is no address with a length`,
		"hosts: [{name: h, addresses: [1.2.3.4/32]}]":     "has no room for a gateway",
		"hosts: [{name: h, addresses: [1.2.3.0/24]}]":     "1.2.3.0 is no address of a host",
		"hosts: [{name: h, addresses: [1.2.3.255/24]}]":   "1.2.3.255 is no address of a host",
		"hosts: [{name: h, addresses: [1.2.3.4/24]}, {name: i, addresses: [1.2.3.4/24]}]":           "1.2.3.4 is there twice",
		"hosts: [{name: h, addresses: [10.244.9.4/24]}]":                                            "overlaps 10.244.0.0/16",
		"hosts: [{name: h, addresses: [1.2.3.4/24], behind: x}]":                                    `hosts[0].behind: "x" is no firewall`,
		"firewalls: [{name: f, default: maybe}]":                                                    `firewalls[0].default: is "maybe"`,
		"firewalls: [{name: f, rules: [{direction: up, action: drop}]}]":                            `rules[0].direction: is "up"`,
		"firewalls: [{name: f, rules: [{direction: in, action: flee}]}]":                            `rules[0].action: is "flee"`,
		"firewalls: [{name: f, rules: [{direction: in, action: drop, protocol: x}]}]":               `rules[0].protocol: is "x"`,
		"firewalls: [{name: f, rules: [{direction: in, action: drop, ports: 80}]}]":                 "stands without a protocol",
		"firewalls: [{name: f, rules: [{direction: in, action: drop, tcpFlags: [ack]}]}]":           "stands without protocol tcp",
		"firewalls: [{name: f, rules: [{direction: in, action: drop, protocol: udp, ports: 9-1}]}]": `rules[0].ports: is "9-1"`,
		"agent: {nodeSNATRandomisePorts: true}":                                                     "agent.nodeSNATRandomisePorts: is not a field",
		"colour: blue":                                                                              "colour: is not a field of Lab",
	} {
		_, problems := Parse("lab.yaml", []byte("apiVersion: lab.fairlead.dev/v1alpha1\nkind: Lab\n"+written))
		if text := fmt.Sprint(problems); !strings.Contains(text, want) || !strings.Contains(text, "lab.yaml: Lab: ") {
			t.Errorf("%s: %s; want %q", written, text, want)
		}
	}
	for _, written := range []string{"kind: Pod\napiVersion: v1", "words", "a: [", "kind: Lab"} {
		if _, problems := Parse("lab.yaml", []byte(written)); len(problems) == 0 {
			t.Errorf("%q is a lab", written)
		}
	}
}

// What Parse accepts can be built: addresses are in their networks, used once,
// and every index leads somewhere.
func FuzzParseLab(f *testing.F) {
	head := "apiVersion: lab.fairlead.dev/v1alpha1\nkind: Lab\n"
	for _, s := range []string{"", "nodes: 7", "nodes: [{name: a, underlay: b}]\nunderlays: [{name: b, cidrs: [10.9.0.0/29, 'fd00::/125']}]",
		"hosts: [{name: h, addresses: [198.51.100.10/30], behind: f}]\nfirewalls: [{name: f, rules: [{direction: in, action: drop, protocol: tcp, ports: 1-2, tcpFlags: [syn]}]}]"} {
		f.Add(head + s)
	}
	f.Fuzz(func(t *testing.T, written string) {
		p, problems := Parse("lab.yaml", []byte(written))
		if (p == nil) != (len(problems) > 0) {
			t.Fatalf("plan %v with problems %v", p, problems)
		}
		if p == nil {
			return
		}
		used := map[netip.Addr]bool{}
		take := func(a netip.Prefix) {
			if !a.IsValid() || used[a.Addr()] {
				t.Errorf("%s is invalid or used twice in %q", a, written)
			}
			used[a.Addr()] = true
		}
		for _, n := range p.Nodes {
			for _, a := range n.Addresses {
				take(a)
			}
			if n.Underlay >= len(p.Underlays) || len(n.PodCIDRs) == 0 || len(n.Addresses) == 0 {
				t.Errorf("node %+v in %q", n, written)
			}
		}
		for _, u := range p.Underlays {
			for _, g := range u.Gateways {
				take(g)
			}
		}
		for _, h := range p.Hosts {
			if h.Segment >= len(p.Segments) || p.Segments[h.Segment].Firewall >= len(p.Firewalls) {
				t.Errorf("host %+v in %q", h, written)
			}
			for _, a := range h.Addresses {
				take(a)
			}
		}
		for _, s := range p.Segments {
			for _, g := range s.Gateways {
				take(g)
			}
		}
	})
}
