package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/feature/snat"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/netnstest/cluster"
	"fairlead.dev/fairlead/internal/world"
)

// A bedKind is a way of choosing source ports, and what is set in pods.
type bedKind struct {
	Ports      string `json:"ports"`
	Timestamps string `json:"timestamps"`         // of pods
	Reuse      bool   `json:"reuse,omitempty"`    // tcp_tw_reuse=1 in pods
	Node       string `json:"node,omitempty"`     // timestamps of the node itself
	AtSource   int    `json:"atSource,omitempty"` // ports that each pod chooses from, apart from others'
	Forgets    bool   `json:"forgets,omitempty"`  // conntrack of the node keeps TIME_WAIT for 1 s
}

func (k bedKind) String() string { return k.Ports + ", timestamps " + k.Timestamps }

// Ports as Fairlead chooses them, and as Flannel's arrangement does.
const (
	portsUntranslated = "no NAT"
	portsOfNewInstall = "new install" // with every setting at its default
	portsPlain        = "plain"
	portsRandom       = "random"
	portsRange        = "range"
	portsRangeRandom  = "range, random"
	portsBlocks       = "blocks of 512"
	portsOfFlannel    = "Flannel's"
)

// Timestamps of TCP: what the kernel does, and one clock for all.
const (
	timestampsRandom    = "random"
	timestampsMonotonic = "monotonic"
	timestampsDefault   = "" // whatever the arrangement makes of it
)

const (
	timestampsSetting = "net/ipv4/tcp_timestamps"
	localPorts        = "net/ipv4/ip_local_port_range"
)

var timestampsByValue = map[string]string{"1": timestampsRandom, "2": timestampsMonotonic}

var (
	untranslated = bedKind{Ports: portsUntranslated, Timestamps: timestampsRandom}
	newInstall   = bedKind{Ports: portsOfNewInstall, Timestamps: timestampsDefault}
	likeFlannel  = bedKind{Ports: portsOfFlannel, Timestamps: timestampsDefault}
	best         = bedKind{Ports: portsRangeRandom, Timestamps: timestampsMonotonic}
)

// Beds of scenes, the one that others are compared with first.
var (
	allBeds = append([]bedKind{untranslated, newInstall, likeFlannel}, append(
		bothTimestamps(portsPlain, portsRandom, portsRangeRandom, portsBlocks), bedKind{Ports: portsRange, Timestamps: timestampsRandom})...)
	plainBed    = bedKind{Ports: portsPlain, Timestamps: timestampsMonotonic}
	fewBeds     = []bedKind{untranslated, newInstall, likeFlannel, best}
	serverBeds  = append(slices.Clip(fewBeds), forgetting(newInstall), forgetting(best), plainBed)
	reusingBeds = []bedKind{untranslated, newInstall, likeFlannel, best, reusing(untranslated), reusing(newInstall), reusing(best)}
	nodeBeds    = withNode(append([]bedKind{untranslated}, bothTimestamps(portsPlain, portsRandom)...))
	sourceBeds  = []bedKind{untranslated, best, reusing(best), plainBed, reusing(plainBed), atSource(512), atSource(2048), atSource(14116)}
)

func bothTimestamps(ports ...string) (out []bedKind) {
	for _, p := range ports {
		out = append(out, bedKind{Ports: p, Timestamps: timestampsRandom}, bedKind{Ports: p, Timestamps: timestampsMonotonic})
	}
	return out
}

func reusing(k bedKind) bedKind {
	k.Reuse = true
	return k
}

// atSource has pods choose their ports apart from each other, so that there is
// nothing to translate.
func atSource(ports int) bedKind {
	return bedKind{Ports: portsPlain, Timestamps: timestampsMonotonic, Reuse: true, AtSource: ports}
}

// forgetting has the node's connection table hold TIME_WAIT for a second only.
func forgetting(k bedKind) bedKind {
	k.Forgets = true
	return k
}

func withNode(kinds []bedKind) (out []bedKind) {
	for _, k := range kinds {
		for _, k.Node = range []string{timestampsRandom, timestampsMonotonic} {
			if k.Ports != portsUntranslated || k.Node == timestampsRandom {
				out = append(out, k)
			}
		}
	}
	return out
}

// closingAddresses are the server's, in the networks that nodes are in.
var closingAddresses = []netip.Addr{netip.MustParseAddr("192.0.2.100"), netip.MustParseAddr("2001:db8:1::100")}

// A closingBed is a node with pods, and a server outside.
type closingBed struct {
	b            *bench
	kind         bedKind
	pods         []*netnstest.Host
	node, server *netnstest.Host
	loads        []*closingLoad
	paws         int // refusals of the server before,
	dropped      int // and packets of the node
}

func newClosingBed(b *bench, k bedKind, pods int) *closingBed {
	c := &closingBed{b: b, kind: k, server: netnstest.New(b)}
	c.server.Sysctl("net/ipv4/tcp_max_tw_buckets", "1000000")
	if k.Ports == portsOfFlannel {
		n := newFlannelNode(b, 0)
		netnstest.Wire(n.Host, "eth0", c.server, "eth0")
		n.Address("eth0", outers(0)[0].String()+"/24", outers(0)[1].String()+"/64")
		n.Sysctl(bridgeCalls4, "1", bridgeCalls6, "1")
		for family := range flannelFamilies {
			n.rules(family)
		}
		for i := range pods {
			c.pods = append(c.pods, n.pod(fmt.Sprintf("closing-%d", i)).Host)
		}
		c.node = n.Host
	} else {
		n := cluster.NewNode(b, 1)
		n.Wire(c.server, "eth0")
		for range pods {
			c.pods = append(c.pods, n.NewPod().Host)
		}
		if k.Ports == portsOfNewInstall {
			// As the agent has it from when half of the ports towards the server are
			// taken, which these loads do within two seconds.
			n.Observed = []world.Part{snat.TimeWait.Part(&snat.Wait{Before: "120", Short: true})}
		}
		n.Apply(k.spec())
		n.Settle()
		c.node = n.Host
	}
	c.server.Address("eth0", closingAddresses[0].String()+"/24", closingAddresses[1].String()+"/64")
	if k.Ports == portsUntranslated {
		c.server.Route("10.244.1.0/24", "192.0.2.1")
		c.server.Route("fd00:10:244:1::/64", "2001:db8:1::1")
	}
	c.set()
	return c
}

// spec is what an operator writes to have ports chosen so.
func (k bedKind) spec() v1alpha1.AgentConfigSpec {
	s := v1alpha1.AgentConfigSpec{}
	ports, random, block := "kernel", strings.HasSuffix(k.Ports, portsRandom), 512
	switch k.Ports {
	case portsOfNewInstall:
		if k.Reuse {
			s.PodTCPReuse = &k.Reuse
		}
		return s
	case portsUntranslated:
		s.NonMasqueradeCIDRs = []string{closingAddresses[0].String() + "/32", closingAddresses[1].String() + "/128"}
	case portsRange, portsRangeRandom:
		ports = "auto"
	case portsBlocks:
		ports, s.NodeSNATPortBlock = "auto", &block
	}
	s.NodeSNATPortRange, s.NodeSNATRandomizePorts = &ports, &random
	if k.Timestamps != timestampsDefault {
		s.PodTCPTimestamps = &k.Timestamps
	}
	if k.Node != timestampsDefault {
		s.HostTCPTimestamps = &k.Node
	}
	s.PodTCPReuse = &k.Reuse
	return s
}

// set makes the settings that no arrangement makes, and looks at what it made.
func (c *closingBed) set() {
	if c.kind.Forgets {
		c.node.Sysctl(waitTimeout, shortTimeout)
	}
	for i, p := range c.pods {
		if n := c.kind.AtSource; n > 0 {
			low := 32768 + i*n
			p.Sysctl(localPorts, fmt.Sprintf("%d %d", low, low+n-1))
		}
		p.Do(func() error {
			v, err := sysctl.Read(timestampsSetting)
			got := timestampsByValue[v]
			if err == nil && c.kind.Timestamps != timestampsDefault && c.kind.Timestamps != got {
				err = fmt.Errorf("timestamps are %q, not %s", got, c.kind.Timestamps)
			}
			c.kind.Timestamps = got
			return err
		})
	}
}
