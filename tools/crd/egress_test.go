package crd

import (
	"fmt"
	"strings"
	"testing"
)

// badEgresses are specs that the API server refuses, each with the field at fault.
var badEgresses = []struct{ field, spec string }{
	{"appliedTo", `egressIPs: [198.51.100.7]`},
	{"egressIPs", `appliedTo: {podSelector: {}}`},
	{"egressIPs", `appliedTo: {}, egressIPs: []`},
	{"egressIPs[1]", `appliedTo: {}, egressIPs: [198.51.100.7, here]`},
	{"egressIPs[0]", `appliedTo: {}, egressIPs: [198.51.100.7/32]`},
	{"egressIPs[0]", `appliedTo: {}, egressIPs: ["::ffff:198.51.100.7"]`},
	{"egressIPs[0]", `appliedTo: {}, egressIPs: ["fe80::1%eth0"]`},
	{"egressIPs[0]", `appliedTo: {}, egressIPs: [224.0.0.5]`},
	{"egressIPs[0]", `appliedTo: {}, egressIPs: [127.0.0.1]`},
	{"egressIPs[0]", `appliedTo: {}, egressIPs: ["::"]`},
	{"egressIPs[0]", `appliedTo: {}, egressIPs: ["fe80::1"]`},
	{"egressIPs[0]", `appliedTo: {}, egressIPs: [255.255.255.255]`},
	{"egressIPs", `appliedTo: {}, egressIPs: [` + egressIPs(65) + `]`},
	{"exceptCIDRs[0]", `appliedTo: {}, egressIPs: [198.51.100.7], exceptCIDRs: [10.0.0.1/8]`},
	{"exceptCIDRs[0]", `appliedTo: {}, egressIPs: [198.51.100.7], exceptCIDRs: [10.0.0.1]`},
	{"exceptCIDRs", `appliedTo: {}, egressIPs: [198.51.100.7], exceptCIDRs: [` + cidrs(1025) + `]`},
	{"portRange", `appliedTo: {}, egressIPs: [198.51.100.7], portRange: auto`},
	{"portRange", `appliedTo: {}, egressIPs: [198.51.100.7], portRange: 2-1`},
	{"portRange", `appliedTo: {}, egressIPs: [198.51.100.7], portRange: 1-65536`},
	{"unavailable", `appliedTo: {}, egressIPs: [198.51.100.7], unavailable: drop`},
	{"pool", `appliedTo: {}, egressIPs: [198.51.100.7], pool: a`},
}

var goodEgresses = []string{
	`appliedTo: {}, egressIPs: [198.51.100.7]`,
	`appliedTo: {namespaceSelector: {}, podSelector: {matchLabels: {a: b}, matchExpressions: [{key: c, operator: In, values: [d]}]}}, egressIPs: [10.0.0.1, "2001:db8::7", "fd00::1"]`,
	`appliedTo: {podSelector: {}}, egressIPs: [` + egressIPs(64) + `], exceptCIDRs: [` + cidrs(1024) + `], randomizePorts: true, portRange: 1-65535, unavailable: FallBack`,
	`appliedTo: {podSelector: {}}, egressIPs: [198.51.100.7], unavailable: Drop, randomizePorts: null, exceptCIDRs: null`,
}

func egressIPs(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`"2001:db8::%x"`, i+1)
	}
	return strings.Join(list, ", ")
}

func TestTheSchemaOfEgresses(t *testing.T) {
	s := newSchema(t, "fairlead.dev_egresses.yaml")
	egress := func(spec string) map[string]any {
		return read(t, "apiVersion: fairlead.dev/v1alpha1\nkind: Egress\nmetadata: {name: a}\nspec: {"+spec+"}\n")
	}
	for _, c := range badEgresses {
		if refused := s.refuses(t, egress(c.spec)); len(refused) == 0 || !strings.Contains(refused[0], "spec."+c.field) {
			t.Errorf("%.80s: the schema says %q, which does not name spec.%s", c.spec, refused, c.field)
		}
	}
	for _, spec := range goodEgresses {
		if refused := s.refuses(t, egress(spec)); len(refused) > 0 {
			t.Errorf("%.80s: the schema says %q", spec, refused)
		}
	}
}
