package source

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/world"
)

// Pod returns what counts of o; nil where its work is done, for its addresses may
// be another's then, and where it is another node's and has none yet.
func (d Door) Pod(o *corev1.Pod) (*world.Pod, []world.Problem) {
	if o.Status.Phase == corev1.PodSucceeded || o.Status.Phase == corev1.PodFailed {
		return nil, nil
	}
	p := &world.Pod{Key: d.key(o.Namespace, o.Name), Node: d.intern(o.Spec.NodeName), HostNetwork: o.Spec.HostNetwork}
	m := mistakes{object: "Pod " + o.Namespace + "/" + o.Name}
	ips := o.Status.PodIPs
	if len(ips) == 0 && o.Status.PodIP != "" {
		ips = []corev1.PodIP{{IP: o.Status.PodIP}}
	}
	if len(ips) > 0 {
		p.Addresses = make([]netip.Addr, 0, len(ips)) // there may be 100,000 of them
	}
	for i, ip := range ips {
		p.Addresses = m.address(p.Addresses, "status.podIPs[%d].ip", i, ip.IP)
	}
	if d.Node == "" || d.Node == o.Spec.NodeName {
		p.Local = m.local(o)
	} else if len(p.Addresses) == 0 {
		return nil, m.problems
	}
	p.Labels = world.NewLabels(o.Labels)
	return p, m.problems
}

// longestList is as long as an API server lets annotations be.
const longestList = 256 << 10

func (m *mistakes) local(o *corev1.Pod) *world.LocalPod {
	out := &world.LocalPod{UID: string(o.UID), Annotations: annotation(o.Annotations, world.NodePortLocalPorts, longestList)}
	for i, c := range o.Spec.Containers {
		m.containerPorts(out, fmt.Sprintf("spec.containers[%d]", i), c.Ports)
	}
	for i, c := range o.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways { // a sidecar
			m.containerPorts(out, fmt.Sprintf("spec.initContainers[%d]", i), c.Ports)
		}
	}
	return out
}

func (m *mistakes) containerPorts(to *world.LocalPod, container string, ports []corev1.ContainerPort) {
	for i, p := range ports {
		at := fmt.Sprintf("%s.ports[%d].", container, i)
		number, ok := m.port(at+"containerPort", p.ContainerPort)
		protocol, known := m.protocol(at+"protocol", p.Protocol)
		if !ok || !known {
			continue
		}
		to.Ports = append(to.Ports, world.ContainerPort{Name: p.Name, Port: number, Protocol: protocol})
		if p.HostPort == 0 {
			continue
		}
		host := world.HostPort{Protocol: protocol, PodPort: number}
		if host.Port, ok = m.port(at+"hostPort", p.HostPort); !ok {
			continue
		}
		if p.HostIP != "" {
			a, reason, hint := parseAddress(p.HostIP)
			if reason != "" {
				m.report(at+"hostIP", reason, hint)
				continue
			}
			host.Address = a
		}
		to.HostPorts = append(to.HostPorts, host)
	}
}

// Namespace returns what counts of o.
func (d Door) Namespace(o *corev1.Namespace) *world.Namespace {
	return &world.Namespace{Key: world.Key{Name: d.intern(o.Name)}, Labels: world.NewLabels(o.Labels)}
}

// Service returns what counts of o.
func (d Door) Service(o *corev1.Service) (*world.Service, []world.Problem) {
	s := &world.Service{Key: d.key(o.Namespace, o.Name), Type: d.intern(string(o.Spec.Type)),
		Selector: world.NewLabels(o.Spec.Selector), Annotations: annotation(o.Annotations, world.NodePortLocalEnabled, quote.Value)}
	m := mistakes{object: "Service " + o.Namespace + "/" + o.Name}
	ips := o.Spec.ClusterIPs
	if len(ips) == 0 && o.Spec.ClusterIP != "" {
		ips = []string{o.Spec.ClusterIP}
	}
	for i, ip := range ips {
		if ip != corev1.ClusterIPNone {
			s.ClusterIPs = m.address(s.ClusterIPs, "spec.clusterIPs[%d]", i, ip)
		}
	}
	for _, a := range s.ClusterIPs {
		s.IPv4, s.IPv6 = s.IPv4 || a.Is4(), s.IPv6 || a.Is6()
	}
	for _, f := range o.Spec.IPFamilies {
		s.IPv4, s.IPv6 = s.IPv4 || f == corev1.IPv4Protocol, s.IPv6 || f == corev1.IPv6Protocol
	}
	s.Ingress, s.ExternalIPs = m.ingress(o.Status.LoadBalancer.Ingress), m.externalIPs(o.Spec.ExternalIPs)
	for i, p := range o.Spec.Ports {
		if port, ok := m.servicePort(fmt.Sprintf("spec.ports[%d].", i), p); ok {
			port.Name, port.TargetName = d.intern(port.Name), d.intern(port.TargetName)
			s.Ports = append(s.Ports, port)
		}
	}
	return s, m.problems
}

// mostReached bounds the addresses that one Service has of load balancers, and of
// others: its author may write as many as an object has room for.
const mostReached = 256

// ingress are the addresses of a load balancer that are those of packets at the node:
// one of ipMode Proxy has its own connections to nodes and pods (KEP-1860).
func (m *mistakes) ingress(all []corev1.LoadBalancerIngress) (out []netip.Addr) {
	const field = "status.loadBalancer.ingress"
	for i, in := range all {
		if in.IP == "" || in.IPMode != nil && *in.IPMode == corev1.LoadBalancerIPModeProxy {
			continue
		}
		if len(out) == mostReached {
			m.report(field, fmt.Sprintf("has more than %d addresses", mostReached), "the first of them count")
			break
		}
		out = m.address(out, field+"[%d].ip", i, in.IP)
	}
	return out
}

func (m *mistakes) externalIPs(all []string) (out []netip.Addr) {
	const field = "spec.externalIPs"
	for i, ip := range all {
		if i == mostReached {
			m.report(field, fmt.Sprintf("has more than %d addresses", mostReached), "the first of them count")
			break
		}
		out = m.address(out, field+"[%d]", i, ip)
	}
	return out
}

func (m *mistakes) servicePort(at string, p corev1.ServicePort) (world.ServicePort, bool) {
	out := world.ServicePort{Name: p.Name}
	var ok, known bool
	if out.Port, ok = m.port(at+"port", p.Port); !ok {
		return out, false
	}
	if out.Protocol, known = m.protocol(at+"protocol", p.Protocol); !known {
		return out, false
	}
	switch {
	case p.TargetPort.Type == intstr.String && p.TargetPort.StrVal != "":
		out.TargetName = p.TargetPort.StrVal
	case p.TargetPort.IntVal == 0: // none is written
		out.TargetPort = out.Port
	default:
		out.TargetPort, ok = m.port(at+"targetPort", p.TargetPort.IntVal)
	}
	return out, ok
}
