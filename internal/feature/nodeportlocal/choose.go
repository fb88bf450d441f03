package nodeportlocal

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"fairlead.dev/fairlead/internal/quote"
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
	return map[bool]string{false: "IPv4", true: "IPv6"}[ipv6]
}

// label is one that Services select pods by.
type label struct{ namespace, name, value string }

// chooser finds the ports that Services choose.
type chooser struct {
	// by are the Services that select pods, each by the first label that it asks for:
	// a pod is compared with those that have one of its labels.
	by       map[label][]*world.Service
	world    *world.World
	nodeIPs  map[bool]netip.Addr // by whether the family is IPv6
	lacking  map[bool]bool       // families that are asked for and the node lacks
	mistakes []world.Problem
	targets  []target // of one pod
	// alone are lists of one Service, which most ports of pods have, each made once.
	alone map[*world.Service][]world.Key
}

// target is a port of one pod that a Service chooses.
type target struct {
	port       uint16
	protocol   byte
	ipv4, ipv6 bool
	service    *world.Service
}

func newChooser(w *world.World) *chooser {
	c := &chooser{world: w, by: map[label][]*world.Service{}, nodeIPs: map[bool]netip.Addr{}, lacking: map[bool]bool{}, alone: map[*world.Service][]world.Key{}}
	for _, a := range slices.Concat(w.Node.External, w.Node.Addresses) {
		if _, better := c.nodeIPs[a.Is6()]; !better {
			c.nodeIPs[a.Is6()] = a
		}
	}
	for _, s := range w.Services.List {
		if !c.selects(s) {
			continue
		}
		for name, value := range s.Selector.All() {
			first := label{s.Namespace, name, value}
			c.by[first], c.alone[s] = append(c.by[first], s), []world.Key{s.Key}
			break
		}
	}
	return c
}

// selects reports whether s chooses ports of pods. One that asks for it and
// cannot is a mistake.
func (c *chooser) selects(s *world.Service) bool {
	value, asks := s.Annotations.Get(world.NodePortLocalEnabled)
	if !asks || value == "false" {
		return false
	}
	var reason, hint string
	switch {
	case value != "true":
		reason, hint = quote.Of(value)+" is neither true nor false", `write "true", or remove the annotation`
	case s.Type != "" && s.Type != "ClusterIP" && s.Type != "LoadBalancer":
		reason, hint = fmt.Sprintf("a Service of type %s selects no pods for it", s.Type), "make the Service one of type ClusterIP or LoadBalancer, or remove the annotation"
	case s.Selector == (world.Labels{}):
		reason, hint = "a Service without a selector selects no pods", "give the Service a selector, or remove the annotation"
	default:
		return true
	}
	c.mistakes = append(c.mistakes, world.Problem{Object: "Service " + s.Namespace + "/" + s.Name,
		Field: "metadata.annotations[" + world.NodePortLocalEnabled + "]", Reason: reason, Hint: hint})
	return false
}

// mappings appends those of one pod, sorted by port, protocol and family. Those
// that need a port of ours have none yet.
func (c *chooser) mappings(to []Mapping, p *world.Pod) []Mapping {
	c.targets = c.targets[:0]
	for name, value := range p.Labels.All() {
		for _, s := range c.by[label{p.Namespace, name, value}] {
			if isSelected(p, s) {
				c.target(p, s)
			}
		}
	}
	slices.SortFunc(c.targets, func(a, b target) int {
		return cmp.Or(cmp.Compare(a.port, b.port), cmp.Compare(a.protocol, b.protocol), a.service.Compare(b.service.Key))
	})
	for i := 0; i < len(c.targets); {
		whole := c.targets[i]
		services := c.alone[whole.service]
		for ; i < len(c.targets) && c.targets[i].port == whole.port && c.targets[i].protocol == whole.protocol; i++ {
			whole.ipv4, whole.ipv6 = whole.ipv4 || c.targets[i].ipv4, whole.ipv6 || c.targets[i].ipv6
			if k := c.targets[i].service.Key; services[len(services)-1] != k {
				services = append(slices.Clip(services), k)
			}
		}
		to = c.lead(to, p, whole, services)
	}
	return to
}

// isSelected reports whether p has all that s asks for.
func isSelected(p *world.Pod, s *world.Service) bool {
	for name, value := range s.Selector.All() {
		if has, ok := p.Labels.Get(name); !ok || has != value {
			return false
		}
	}
	return true
}

// target notes the ports of p that s chooses.
func (c *chooser) target(p *world.Pod, s *world.Service) {
	ipv4, ipv6 := s.IPv4, s.IPv6
	if !ipv4 && !ipv6 { // an API server would have filled in one
		ipv4, ipv6 = p.Addresses[0].Is4(), p.Addresses[0].Is6()
	}
	for _, port := range s.Ports {
		number := port.TargetPort
		if number == 0 {
			i := slices.IndexFunc(p.Local.Ports, func(q world.ContainerPort) bool {
				return q.Name == port.TargetName && q.Protocol == port.Protocol
			})
			if i < 0 {
				continue
			}
			number = p.Local.Ports[i].Port
		}
		c.targets = append(c.targets, target{number, port.Protocol, ipv4, ipv6, s})
	}
}

// lead appends the mappings of one port: to its host ports where it has some, and
// otherwise one of each family that has to be given a port.
func (c *chooser) lead(to []Mapping, p *world.Pod, t target, services []world.Key) []Mapping {
	for _, ipv6 := range []bool{false, true} {
		if ipv6 && !t.ipv6 || !ipv6 && !t.ipv4 {
			continue
		}
		i := slices.IndexFunc(p.Addresses, func(a netip.Addr) bool { return a.Is6() == ipv6 })
		if i < 0 {
			continue
		}
		m := Mapping{Pod: p, PodPort: t.port, Address: p.Addresses[i], NodeIP: c.nodeIPs[ipv6],
			Port: world.Port{IPv6: ipv6, Protocol: t.protocol}, Services: services}
		hosted := false
		for _, h := range p.Local.HostPorts {
			if h.PodPort != t.port || h.Protocol != t.protocol {
				continue
			}
			hosted = true
			if _, own := c.world.Own(h); own {
				continue // it leads nowhere
			}
			there := m
			there.HostPort, there.Port.Number = true, h.Port
			if !h.Anywhere() {
				there.NodeIP = h.Address
			}
			switch {
			case !there.NodeIP.IsValid() || there.NodeIP.Is6() != ipv6 || there.NodeIP.IsLoopback(): // which others do not reach
			case !h.Anywhere() && !c.world.HasAddress(h.Address):
				c.elsewhere(p, h)
			default:
				to = append(to, there)
			}
		}
		switch {
		case hosted:
		case m.NodeIP.IsValid():
			to = append(to, m)
		default:
			c.lacking[ipv6] = true
		}
	}
	return to
}

// elsewhere notes that a host port of p is not told: its address is not the node's.
func (c *chooser) elsewhere(p *world.Pod, h world.HostPort) {
	problem := world.Problem{Object: "Pod " + p.Namespace + "/" + p.Name, Field: "metadata.annotations[" + world.NodePortLocalPorts + "]",
		Reason: fmt.Sprintf("host port %s is not among them: %s is no address of node %s", h, h.Address, c.world.Node.Name),
		Hint:   "write an address of the node, or leave hostIP out"}
	if len(c.mistakes) < mostTold && !slices.Contains(c.mistakes, problem) {
		c.mistakes = append(c.mistakes, problem)
	}
}
