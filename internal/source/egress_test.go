package source

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/world"
)

func anEgress(t *testing.T, name string, created int, text string) *v1alpha1.Egress {
	t.Helper()
	o := &v1alpha1.Egress{}
	head := fmt.Sprintf("metadata: {name: %s, generation: 3, creationTimestamp: \"2026-01-02T03:04:%02dZ\"}\n", name, created)
	must(t, yaml.UnmarshalStrict([]byte(head+text), o))
	return o
}

// A mistake costs what it is in, says so, and says the way out. What is left of a selector
// would select more pods than it should: it selects none.
func TestMistakesInAnEgress(t *testing.T) {
	t.Parallel()
	many := func(n int, form string) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf(form, i))
		}
		return strings.Join(all, ", ")
	}
	const pods = "appliedTo: {podSelector: {matchLabels: {app: web}}}, "
	const one = "egressIPs: [198.51.100.7], "
	for _, c := range []struct{ spec, status, problem string }{
		{pods + "egressIPs: [198.51.100.7, 198.51.100]", "", `spec.egressIPs[1]: "198.51.100" is no IP address (write one such as 192.0.2.1)`},
		{pods + `egressIPs: [198.51.100.7, "::ffff:198.51.100.7"]`, "", "spec.egressIPs[1]: 198.51.100.7 is there already (remove one of the two)"},
		{pods + "egressIPs: [224.0.0.1, 198.51.100.7]", "", "spec.egressIPs[0]: 224.0.0.1 is no address that a connection can have across networks (write one such as"},
		{pods + "egressIPs: [198.51.100.7, " + many(64, "192.0.2.%d") + "]", "", "spec.egressIPs: has more than 64 addresses (the first of them count)"},
		{pods + "egressIPs: []", "", "spec.egressIPs: has no address (write one such as"},
		{pods + one + "exceptCIDRs: [10.0.0.1/8, 10.0.0.0/8]", "", "spec.exceptCIDRs[0]: 10.0.0.1/8 has bits set behind its prefix (write 10.0.0.0/8)"},
		{pods + one + "exceptCIDRs: [" + many(1025, `"2001:db8:%x::/48"`) + "]", "", "spec.exceptCIDRs: has more than 1024 items (the first of them count)"},
		{pods + one + "portRange: 9-8", "", "spec.portRange: invalid port range 9-8 (write the lower port first: 8-9)"},
		{pods + one + "unavailable: Fallback", "", `spec.unavailable: "Fallback" is no choice: Drop counts (write Drop or FallBack)`},
		{pods + one, "{ip: here, number: 1}", `status.addresses[0].ip: "here" is no IP address (let the controller write the status)`},
		{pods + one, "{ip: 198.51.100.7, number: 16384}", "status.addresses[0].number: 16384 is no number of an address: 198.51.100.7 is not used (let"},
		{pods + one, "{ip: 198.51.100.7, number: 0, node: n1}", "status.addresses[0].number: 0 is no number of an address: 198.51.100.7 is not used (let"},
		{pods + one, "{ip: 198.51.100.7, number: 4}, {ip: 198.51.100.7, number: 5}", "status.addresses[1].ip: 198.51.100.7 is there already, with number 4, which counts (let"},
		{one + "appliedTo: {podSelector: {matchExpressions: [{key: a, operator: Inn, values: [b]}]}}", "", `spec.appliedTo.podSelector.matchExpressions[0]: "Inn" is no operator: the Egress selects nobody (write In, NotIn, Exists or DoesNotExist)`},
		{one + "appliedTo: {podSelector: {}, namespaceSelector: {matchExpressions: [{key: a, operator: In}]}}", "", "spec.appliedTo.namespaceSelector.matchExpressions[0]: In has no values: the Egress selects nobody (write values, or"},
		{one + "appliedTo: {podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}", "", "spec.appliedTo.podSelector.matchExpressions[0]: Exists has values: the Egress selects nobody (leave values out, or"},
		{one + `appliedTo: {podSelector: {matchLabels: {"a b": c}}}`, "", `spec.appliedTo.podSelector.matchLabels: "a b" is no name of a label: the Egress selects nobody (write one such as`},
		{one + `appliedTo: {podSelector: {matchExpressions: [{key: a, operator: In, values: [b, "c d"]}]}}`, "", `spec.appliedTo.podSelector.matchExpressions[0]: "c d" is no value of a label: the Egress selects nobody (write up to 63`},
		{one + "appliedTo: {podSelector: {matchLabels: {" + many(65, "a%d: b") + "}}}", "", "spec.appliedTo.podSelector: has 65 labels and expressions: the Egress selects nobody (write at most 64)"},
		{one + "appliedTo: {podSelector: {matchExpressions: [{key: a, operator: NotIn, values: [" + many(257, "b%d") + "]}]}}", "", "spec.appliedTo.podSelector.matchExpressions[0]: has 257 values: the Egress selects nobody (write at most 256)"},
	} {
		e, problems := Door{Node: "n1"}.Egress(anEgress(t, "a", 5, "spec: {"+c.spec+"}\nstatus: {addresses: ["+c.status+"]}"))
		if len(problems) != 1 || !strings.HasPrefix(problems[0].String(), "Egress a: "+c.problem) {
			t.Errorf("%.100s, %s: problems %v, want %s", c.spec, c.status, problems, c.problem)
		}
		web := world.NewLabels(map[string]string{"app": "web"})
		if selects, should := e.Selects(web, web), strings.HasPrefix(c.spec, pods); selects != should {
			t.Errorf("%.100s: selects %v", c.spec, selects)
		}
		if none := strings.Contains(c.spec, "egressIPs: []"); none != (len(e.Addresses) == 0) {
			t.Errorf("%.100s: addresses %v", c.spec, e.Addresses)
		}
	}
}

// What an Egress says is taken as it is written.
func TestAnEgressIsReadWhole(t *testing.T) {
	t.Parallel()
	o := anEgress(t, "billing", 5, `
spec:
  appliedTo: {namespaceSelector: {}, podSelector: {matchLabels: {app: web}, matchExpressions: [{key: tier, operator: NotIn, values: [test]}]}}
  egressIPs: ["2001:db8::7", 198.51.100.7]
  exceptCIDRs: [10.0.0.0/8, 9.0.0.0/8, 10.0.0.0/8]
  randomizePorts: false
  portRange: 40000-49999
  unavailable: FallBack
status: {addresses: [{ip: 198.51.100.7, number: 16383, node: n1}, {ip: 198.51.100.8, number: 2, node: n2}]}`)
	e, problems := Door{}.Egress(o)
	text := fmt.Sprintf("%+v %+v %v %v %v %v %v %d", e.Addresses, e.Except, *e.Randomize, e.Ports, e.FallBack, e.Key, e.Generation, e.Created)
	want := "[{Address:2001:db8::7 Number:0 Node:} {Address:198.51.100.7 Number:16383 Node:n1}] [9.0.0.0/8 10.0.0.0/8] false 40000-49999 true { billing} 3 1767323045"
	if text != want || len(problems) > 0 {
		t.Errorf("%s\nwant %s\nproblems %v", text, want, problems)
	}
	labels := func(tier string) world.Labels {
		return world.NewLabels(map[string]string{"app": "web", "tier": tier})
	}
	if !e.Selects(world.Labels{}, labels("real")) || e.Selects(world.Labels{}, labels("test")) {
		t.Errorf("selects by %+v", e.Pods)
	}
}

// Of two Egresses with one number, or one address, the older has it. While nothing
// changes, nothing is new.
func TestNumbersAreOfOneEgress(t *testing.T) {
	t.Parallel()
	egress := func(name string, created int, spec, status string) *v1alpha1.Egress {
		return anEgress(t, name, created, "spec: {appliedTo: {podSelector: {}}, egressIPs: ["+spec+"]}\nstatus: {addresses: ["+status+"]}")
	}
	b := NewBuilder("n1")
	in := Inputs{Kernel: &world.Kernel{}, Attachments: &world.Attachments{}, Objects: &Objects{Egresses: []*v1alpha1.Egress{
		egress("young", 9, "192.0.2.1, 192.0.2.2, 192.0.2.3", "{ip: 192.0.2.1, number: 1, node: n1}, {ip: 192.0.2.2, number: 2, node: n1}, {ip: 192.0.2.3, number: 3, node: n1}"),
		egress("old", 5, "192.0.2.2, 192.0.2.9", "{ip: 192.0.2.2, number: 7, node: n2}, {ip: 192.0.2.9, number: 1, node: n2}"),
		egress("asks", 1, "192.0.2.3", ""),
	}}}
	w, problems := b.Build(in)
	var got []string
	for _, e := range w.Egresses.List {
		got = append(got, fmt.Sprint(e.Name, e.Addresses))
	}
	want := []string{"asks[{192.0.2.3 0 }]", "old[{192.0.2.2 7 n2} {192.0.2.9 1 n2}]", "young[{192.0.2.1 0 } {192.0.2.2 0 } {192.0.2.3 3 n1}]"}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	var said []string
	for _, p := range problems {
		said = append(said, p.String())
	}
	wanted := []string{
		"Egress young: status.addresses: 192.0.2.1 has number 1, which 192.0.2.9 of Egress old has too: it is not used (let the controller write the status)",
		"Egress young: status.addresses: 192.0.2.2 is an address of Egress old, which is older: it is not used here (write it in one Egress only)",
	}
	if !slices.Equal(said, wanted) {
		t.Errorf("%q, want %q", said, wanted)
	}
	next := *in.Objects
	next.Egresses = append(slices.Clone(next.Egresses[:2]), egress("asks", 1, "192.0.2.3", ""))
	in.Objects = &next
	if again, _ := b.Build(in); again.Egresses != w.Egresses {
		t.Error("equal Egresses are other ones")
	}
	next.Egresses = next.Egresses[:2]
	next.Revision++
	other := next
	in.Objects = &other
	if less, _ := b.Build(in); less.Egresses == w.Egresses || less.Egresses.List[1] != w.Egresses.List[2] {
		t.Error("one that stayed is another")
	}
}
