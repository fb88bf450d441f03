package source

import (
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/world"
)

// A Door parses objects of which there are many, for one node, as they come in.
// The zero Door is that of no node: to it every pod is local.
type Door struct {
	Node string
	// Intern returns a string that says the same and is held once; nil: s itself.
	Intern func(s string) string
}

func (d Door) intern(s string) string {
	if d.Intern == nil {
		return s
	}
	return d.Intern(s)
}

func (d Door) key(namespace, name string) world.Key {
	if namespace == "" {
		namespace = corev1.NamespaceDefault
	}
	return world.Key{Namespace: d.intern(namespace), Name: name}
}

// ofOurs are those annotations whose names have Fairlead's group as their domain,
// or a domain below it, and those of NodePortLocal.
func ofOurs(annotations map[string]string) world.Labels {
	var out map[string]string
	for name, value := range annotations {
		domain, _, _ := strings.Cut(name, "/")
		if domain == world.NodePortLocalPorts || domain == v1alpha1.Group || strings.HasSuffix(domain, "."+v1alpha1.Group) {
			if out == nil {
				out = map[string]string{}
			}
			out[name] = value
		}
	}
	return world.NewLabels(out)
}

// mistakes are those of one object.
type mistakes struct {
	object   string
	problems []world.Problem
}

func (m *mistakes) report(field, reason, hint string) {
	m.problems = append(m.problems, world.Problem{Object: m.object, Field: field, Reason: reason, Hint: hint})
}

// address appends the address that the i-th of some fields holds.
func (m *mistakes) address(to []netip.Addr, fields string, i int, text string) []netip.Addr {
	a, reason, hint := parseAddress(text)
	if reason != "" {
		m.report(fmt.Sprintf(fields, i), reason, hint)
		return to
	}
	return append(to, a)
}

// port is the number that a field holds; false where it is none.
func (m *mistakes) port(field string, n int32) (uint16, bool) {
	if n < 1 || n > 1<<16-1 {
		m.report(field, fmt.Sprintf("%d is no port", n), "write 1 to 65535")
		return 0, false
	}
	return uint16(n), true
}

// protocol is the IP protocol number that a field means; false where there is
// none.
func (m *mistakes) protocol(field string, p corev1.Protocol) (byte, bool) {
	switch p {
	case "", corev1.ProtocolTCP:
		return 6, true
	case corev1.ProtocolUDP:
		return 17, true
	case corev1.ProtocolSCTP:
		return 132, true
	}
	m.report(field, fmt.Sprintf("%q is no protocol", p), "write TCP, UDP or SCTP")
	return 0, false
}
