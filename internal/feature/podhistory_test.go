package feature_test

import (
	"fmt"
	"net/netip"
	"slices"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/world"
)

// replace puts an object in the place of the one with its key, or takes that away
// where the new one is nil.
func replace[T any](all []*T, key world.Key, now *T, keyOf func(*T) world.Key) []*T {
	out := slices.DeleteFunc(slices.Clone(all), func(o *T) bool { return keyOf(o) == key })
	if now != nil {
		out = append(out, now)
	}
	slices.SortFunc(out, func(a, b *T) int { return keyOf(a).Compare(keyOf(b)) })
	return out
}

// pods adds, changes or removes one pod, of this node or another. It may be
// another of the same name, and have an address that another pod has.
func (h *history) pods(now []*world.Pod) []*world.Pod {
	key := world.Key{Namespace: pick(h, "default", "default", "other"), Name: fmt.Sprint(h.random.IntN(8))}
	var p *world.Pod
	if h.random.IntN(4) > 0 {
		p = &world.Pod{Key: key, Node: []string{"n1", "n1", "n1", "n2"}[h.random.IntN(4)], HostNetwork: h.random.IntN(8) == 0,
			Labels: world.NewLabels(map[string]string{"app": []string{"a", "b"}[h.random.IntN(2)], "tier": "x"})}
		for _, a := range []string{"10.244.1.%d", "fd00:1::%d"} {
			if h.random.IntN(4) > 0 {
				p.Addresses = append(p.Addresses, netip.MustParseAddr(fmt.Sprintf(a, 2+h.random.IntN(8))))
			}
		}
		p.Local = &world.LocalPod{UID: fmt.Sprint(h.random.IntN(2)), Ports: []world.ContainerPort{{Name: pick(h, "web", "web", "old"), Port: 80, Protocol: 6}, {Name: "web", Port: 81, Protocol: 17}}[:1+h.random.IntN(2)]}
		if h.random.IntN(5) == 0 {
			p.Local.HostPorts = []world.HostPort{{Port: uint16(61000 + h.random.IntN(4)), Protocol: pick[byte](h, 6, 17), PodPort: pick[uint16](h, 80, 81),
				Address: pick(h, netip.Addr{}, netip.MustParseAddr("192.168.100.1"))}}
		}
		if h.random.IntN(4) == 0 {
			p.Local.Annotations = world.NewLabels(map[string]string{world.NodePortLocalPorts: []string{
				"what?", "[]", `[{"podPort":80,"nodePort":61003,"protocol":"tcp","ipFamily":"IPv4"},{"podPort":80,"nodePort":7,"protocol":"tcp"},{"podPort":-1}]`,
			}[h.random.IntN(3)]})
		}
	}
	return replace(now, key, p, func(p *world.Pod) world.Key { return p.Key })
}

// services adds, changes or removes one Service.
func (h *history) services(now []*world.Service) []*world.Service {
	key := world.Key{Namespace: pick(h, "default", "default", "other"), Name: fmt.Sprint(h.random.IntN(4))}
	var s *world.Service
	if h.random.IntN(4) > 0 {
		s = &world.Service{Key: key, Type: []string{"", "ClusterIP", "LoadBalancer", "NodePort"}[h.random.IntN(4)],
			IPv4: h.random.IntN(3) > 0, IPv6: h.random.IntN(3) > 0,
			Selector:    world.NewLabels([]map[string]string{{"app": "a"}, {"app": "b", "tier": "x"}, {"tier": "x"}, nil}[h.random.IntN(4)]),
			Annotations: world.NewLabels(map[string]string{world.NodePortLocalEnabled: []string{"true", "true", "true", "false", "maybe"}[h.random.IntN(5)]})}
		for _, of := range []struct {
			to *[]netip.Addr
			is string
		}{{&s.ClusterIPs, "10.96.0.%d"}, {&s.Ingress, "203.0.113.%d"}, {&s.ExternalIPs, "192.168.100.%d"}} {
			if h.oneIn(3) {
				*of.to = []netip.Addr{netip.MustParseAddr(fmt.Sprintf(of.is, h.random.IntN(4)))}
			}
		}
		for i, target := range []world.ServicePort{{TargetPort: 80}, {Name: "http", TargetName: "web"}, {TargetName: "nobody"}, {TargetPort: 9}} {
			if h.random.IntN(2) == 0 {
				target.Port, target.Protocol = uint16(i+1), []byte{6, 17, 132}[h.random.IntN(3)]
				s.Ports = append(s.Ports, target)
			}
		}
	}
	return replace(now, key, s, func(s *world.Service) world.Key { return s.Key })
}

func (h *history) taken() *world.Taken {
	out := &world.Taken{Closed: h.random.IntN(8) == 0}
	for i := range h.random.IntN(3) {
		out.Ports = append(out.Ports, world.Port{IPv6: h.random.IntN(2) == 0, Protocol: pick[byte](h, 6, 17), Number: uint16(61000 + 2*i)})
	}
	return out
}

func (h *history) nodePortLocal() *v1alpha1.NodePortLocal {
	enabled := h.random.IntN(4) > 0
	ports := []string{"61000-62000", "61000-61003", "61002-61008", "30000-40000", "5"}[h.random.IntN(5)]
	out := &v1alpha1.NodePortLocal{Enabled: &enabled, PortRange: &ports}
	if h.oneIn(3) {
		perPod, perNamespace := pick(h, 1, 2, 100), pick(h, 3, 1000)
		out.MaxPerPod, out.MaxPerNamespace = &perPod, &perNamespace
	}
	return out
}
