package source

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	"fairlead.dev/fairlead/internal/quote"
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

// annotation is that of the given name, alone, with a value of so many bytes at
// most. An object may have a quarter of a megabyte of others, and what is longer
// than anything that makes sense need not be kept whole to be told.
func annotation(annotations map[string]string, name string, most int) world.Labels {
	value, there := annotations[name]
	switch {
	case !there:
		return world.Labels{}
	case len(value) > most:
		value = quote.Text(value, most)
	}
	return world.NewLabels(map[string]string{name: value})
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
	m.report(field, quote.Of(string(p))+" is no protocol", "write TCP, UDP or SCTP")
	return 0, false
}
