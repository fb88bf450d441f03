package nodeportlocal

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"fairlead.dev/fairlead/internal/world"
)

// A Mapping is a port of the node that leads to a port of a pod.
type Mapping struct {
	Pod      *world.Pod
	PodPort  uint16
	Address  netip.Addr // of the pod
	Port     world.Port // of the node; number 0: none is left
	NodeIP   netip.Addr // by which others reach the node
	HostPort bool       // the port is the pod's hostPort, which leads there by itself
	Services []world.Key
}

// kind is the mapping's protocol and family, for people.
func (m Mapping) kind() string {
	return fmt.Sprintf("%s (%s)", world.ProtocolName(m.Port.Protocol), familyName(m.Port.IPv6))
}

func familyName(ipv6 bool) string {
	if ipv6 {
		return "IPv6"
	}
	return "IPv4"
}

// chooser finds the ports that Services choose, as many as the settings allow. What
// is left out is counted and never made: a tenant's Services may ask for millions.
type chooser struct {
	world    *world.World
	services *world.OfServices
	settings world.NodePortLocal
	groupsBy map[world.Selector]*group
	selected selected
	nodeIPs  map[bool]netip.Addr // by whether the family is IPv6
	lacking  map[bool]bool       // families that are asked for and the node lacks
	mistakes []world.Problem
	last     []NodePort // of what was given out, what no pod was compared with
	over     []excess
	left     int // mappings that were left out

	each map[string]int // choices, by namespace

	found   []choice // of one namespace
	added   int      // of found, those that are new
	names   map[portName]uint16
	hosts   map[portKey][]world.HostPort
	matched []*group
}

// A choice is a port of a pod that is to be mapped in one family.
type choice struct {
	portKey
	ipv6, had bool // had: it has a port of the node
	pod       *world.Pod
	services  []world.Key
}

func newChooser(w *world.World) *chooser {
	c := &chooser{world: w, services: w.OfServices(), settings: w.Config.NodePortLocal, nodeIPs: map[bool]netip.Addr{}, lacking: map[bool]bool{},
		each: map[string]int{}, names: map[portName]uint16{}, hosts: map[portKey][]world.HostPort{}}
	for _, a := range slices.Concat(w.Node.External, w.Node.Addresses) {
		if _, better := c.nodeIPs[a.Is6()]; !better {
			c.nodeIPs[a.Is6()] = a
		}
	}
	if Allocated.Of(w.Allocations) != nil {
		c.last = Allocated.Of(w.Allocations).List.Slice()
	}
	c.groups(w.Services.List)
	return c
}

// mappings appends those of the pods of one namespace, in the order of pods, ports,
// protocols and families. Those that need a port of ours have none yet.
func (c *chooser) mappings(to []Mapping, pods []*world.Pod) []Mapping {
	c.found, c.added = slices.Grow(c.found[:0], min(len(pods), c.settings.MaxPerNamespace)), 0
	for _, p := range pods {
		if !p.HostNetwork && len(p.Addresses) > 0 {
			c.choose(p)
		}
	}
	c.boundNamespace()
	if len(c.found) > 0 {
		c.each[c.found[0].pod.Namespace] += len(c.found)
	}
	for i := 0; i < len(c.found); {
		n := i
		for n < len(c.found) && c.found[n].pod == c.found[i].pod {
			n++
		}
		to = c.lead(to, c.found[i:n])
		i = n
	}
	return to
}

// choose adds what Services choose of p to what was found, in order.
func (c *chooser) choose(p *world.Pod) {
	c.matched = c.matched[:0]
	for g := range c.selected.of(p) {
		g.prepare()
		c.matched = append(c.matched, g)
	}
	if len(c.matched) == 0 {
		return
	}
	g := gathering{chooser: c, pod: p, had: c.recorded(p), from: len(c.found)}
	for _, group := range c.matched {
		g.add(group)
	}
	g.prune()
	left := g.asked - (len(c.found) - g.from)
	if left > 0 {
		c.leave(p, left, fmt.Sprintf("nodePortLocal.maxPerPod is %d", c.settings.MaxPerPod))
	}
	// New ones of a namespace are taken in order, so that more than it may have in all
	// need not be remembered.
	kept := g.from
	for _, f := range c.found[g.from:] {
		if !f.had {
			if c.added++; c.added > c.settings.MaxPerNamespace {
				continue
			}
		}
		c.found[kept] = f
		kept++
	}
	if dropped := len(c.found) - kept; dropped > 0 {
		c.leave(p, dropped, c.namespaceBound())
	}
	c.found = c.found[:kept]
}

// recorded are the ports that p has, in the order of ports. Pods come in order.
func (c *chooser) recorded(p *world.Pod) []NodePort {
	first := NodePort{Pod: p.Key, UID: p.Local.UID}
	i := 0
	for i < len(c.last) && cmp.Or(c.last[i].Pod.Compare(first.Pod), cmp.Compare(c.last[i].UID, first.UID)) < 0 {
		i++
	}
	n := i
	for n < len(c.last) && c.last[n].Pod == first.Pod && c.last[n].UID == first.UID {
		n++
	}
	out := c.last[i:n]
	c.last = c.last[n:]
	return out
}

// A gathering collects what groups choose of one pod, and keeps no more than the pod
// may have: of those that have a port first, then in order.
type gathering struct {
	*chooser
	pod   *world.Pod
	had   []NodePort
	from  int // where it begins in found
	asked int // mappings in all; what several groups choose counts once where all are looked at
}

func (g *gathering) add(from *group) {
	for f, n := range from.counts {
		if n > 0 {
			g.asked += n * g.count(families(f))
		}
	}
	first := g.settings.MaxPerPod + len(g.had)
	if first < len(from.targets) {
		for _, h := range g.had { // wherever they stand
			key := portKey{h.PodPort, h.Protocol}
			at, found := slices.BinarySearchFunc(from.targets, key, func(t target, k portKey) int { return t.compare(k) })
			if found && at >= first {
				g.take(&from.targets[at], key)
			}
		}
	}
	for i := range from.targets[:min(first, len(from.targets))] {
		g.take(&from.targets[i], from.targets[i].portKey)
	}
	if len(from.named) > 0 {
		g.addNamed(from)
	}
}

// addNamed looks up the names of the pod's ports, of which the first counts.
func (g *gathering) addNamed(from *group) {
	clear(g.names)
	for _, p := range g.pod.Local.Ports {
		name := portName{p.Name, p.Protocol}
		if _, there := g.names[name]; !there && p.Name != "" {
			g.names[name] = p.Port
			if t := from.named[name]; t != nil {
				g.asked += g.count(t.families)
				g.take(t, portKey{p.Port, p.Protocol})
			}
		}
	}
}

// take adds a target in each family that it, the pod and the node have.
func (g *gathering) take(t *target, key portKey) {
	for _, ipv6 := range []bool{false, true} {
		if !g.has(t.families, ipv6) {
			continue
		}
		c := choice{portKey: key, ipv6: ipv6, pod: g.pod, services: t.services}
		_, c.had = slices.BinarySearchFunc(g.had, c, func(h NodePort, c choice) int {
			return cmp.Or(portKey{h.PodPort, h.Protocol}.compare(c.portKey), familyOrder(h.IPv6)-familyOrder(c.ipv6))
		})
		g.found = append(g.found, c)
	}
	if most := 4 * (g.settings.MaxPerPod + len(g.had)); len(g.found)-g.from > max(most, 64) {
		g.prune()
	}
}

func familyOrder(ipv6 bool) int {
	if ipv6 {
		return 1
	}
	return 0
}

// count is in how many families what is chosen in f is to be mapped.
func (g *gathering) count(f families) (n int) {
	for _, ipv6 := range []bool{false, true} {
		if g.has(f, ipv6) {
			n++
		}
	}
	return n
}

// has reports whether f, the pod and the node have a family. One that the node lacks
// is noted.
func (g *gathering) has(f families, ipv6 bool) bool {
	if !f.have(ipv6, g.pod.Addresses[0].Is6()) || !slices.ContainsFunc(g.pod.Addresses, func(a netip.Addr) bool { return a.Is6() == ipv6 }) {
		return false
	}
	if !g.nodeIPs[ipv6].IsValid() && len(g.pod.Local.HostPorts) == 0 {
		g.lacking[ipv6] = true
		return false
	}
	return true
}

// prune leaves in found what the pod may have, each once.
func (g *gathering) prune() {
	list := g.found[g.from:]
	slices.SortStableFunc(list, choice.compare)
	each := merge(list, func(a, b *choice) bool { return a.compare(*b) == 0 }, func(to, from *choice) { to.services = join(to.services, from.services) })
	g.asked -= len(list) - len(each)
	list = each
	g.found = g.found[:g.from+bound(list, g.settings.MaxPerPod)]
}

func (c choice) compare(d choice) int {
	return cmp.Or(c.portKey.compare(d.portKey), familyOrder(c.ipv6)-familyOrder(d.ipv6))
}

// lead appends the mappings of one pod: of each choice to its host ports where the
// port has some, and otherwise one that has to be given a port.
func (c *chooser) lead(to []Mapping, choices []choice) []Mapping {
	p := choices[0].pod
	clear(c.hosts)
	for _, h := range p.Local.HostPorts {
		key := portKey{h.PodPort, h.Protocol}
		c.hosts[key] = append(c.hosts[key], h)
	}
	spare := c.settings.MaxPerPod - len(choices) // host ports of one port may be many
	for _, f := range choices {
		i := slices.IndexFunc(p.Addresses, func(a netip.Addr) bool { return a.Is6() == f.ipv6 })
		m := Mapping{Pod: p, PodPort: f.port, Address: p.Addresses[i], NodeIP: c.nodeIPs[f.ipv6],
			Port: world.Port{IPv6: f.ipv6, Protocol: f.protocol}, Services: f.services}
		hosts := c.hosts[f.portKey]
		if len(hosts) == 0 {
			if m.NodeIP.IsValid() {
				to = append(to, m)
			} else {
				c.lacking[f.ipv6] = true
			}
			continue
		}
		spare++ // its own
		for n, h := range hosts {
			there, told := c.host(m, h)
			if !told {
				continue
			}
			if spare == 0 {
				c.leave(p, len(hosts)-n, fmt.Sprintf("nodePortLocal.maxPerPod is %d", c.settings.MaxPerPod))
				break
			}
			spare--
			to = append(to, there)
		}
	}
	return to
}

// host is m by a host port; not where that leads nowhere, or others do not reach it.
func (c *chooser) host(m Mapping, h world.HostPort) (Mapping, bool) {
	if _, own := c.world.Own(h); own {
		return m, false
	}
	m.HostPort, m.Port.Number = true, h.Port
	if !h.Anywhere() {
		m.NodeIP = h.Address
	}
	if !m.NodeIP.IsValid() || m.NodeIP.Is6() != m.Port.IPv6 || m.NodeIP.IsLoopback() {
		return m, false
	}
	if reason, hint, nobody := c.world.Nobody(h, c.services); nobody {
		c.elsewhere(m.Pod, h, reason, hint)
		return m, false
	}
	return m, true
}

// elsewhere notes that a host port of p is not told: its address is not the node's.
func (c *chooser) elsewhere(p *world.Pod, h world.HostPort, reason, hint string) {
	problem := world.Problem{Object: "Pod " + p.Namespace + "/" + p.Name, Field: "metadata.annotations[" + world.NodePortLocalPorts + "]",
		Reason: fmt.Sprintf("host port %s is not among them: %s", h, reason), Hint: hint}
	if len(c.mistakes) < mostTold && !slices.Contains(c.mistakes, problem) {
		c.mistakes = append(c.mistakes, problem)
	}
}
