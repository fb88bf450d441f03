package controller

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
)

// egress is one that was created so many minutes after the first.
func egress(name string, minutes int, ips ...string) *v1alpha1.Egress {
	e := &v1alpha1.Egress{ObjectMeta: metav1.ObjectMeta{Name: name, Generation: 1, CreationTimestamp: metav1.Unix(int64(minutes)*60, 0)}}
	e.Spec.EgressIPs = ips
	return e
}

// having is e with a status: "IP NUMBER NODE; ...".
func having(e *v1alpha1.Egress, text string) *v1alpha1.Egress {
	for part := range strings.SplitSeq(text, ";") {
		a := v1alpha1.EgressAddress{Since: &long}
		if _, err := fmt.Sscan(part, &a.IP, &a.Number, &a.Node); err != nil {
			panic(err)
		}
		e.Status.Addresses = append(e.Status.Addresses, a)
	}
	return e
}

var (
	long = metav1.Unix(1000, 0) // ago
	now  = time.Unix(5000, 0)
)

// host is a Node that takes addresses: its own ends in the number of its name.
func host(number int, changes ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("n%d", number)}}
	n.Spec.PodCIDRs = []string{fmt.Sprintf("10.244.%d.0/24", number), fmt.Sprintf("fd00:10:244:%d::/64", number)}
	n.Status.Addresses = []corev1.NodeAddress{
		{Type: corev1.NodeHostName, Address: n.Name},
		{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("192.0.2.%d", number)}, {Type: corev1.NodeInternalIP, Address: fmt.Sprintf("2001:db8:1::%d", number)},
		{Type: corev1.NodeExternalIP, Address: fmt.Sprintf("203.0.113.%d", number)},
	}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	for _, change := range changes {
		change(n)
	}
	return n
}

func clusterOf(nodes []*corev1.Node, all ...*v1alpha1.Egress) *Cluster {
	c := &Cluster{Nodes: map[string]*corev1.Node{}}
	for _, n := range nodes {
		c.Nodes[n.Name] = stripNode(n)
	}
	for _, e := range all {
		c.Objects = append(c.Objects, ofEgress(e))
	}
	return c
}

// conditionsOf are the conditions in words.
func conditionsOf(s Status) string {
	var out []string
	for _, c := range s.Conditions {
		out = append(out, fmt.Sprintf("%s=%s/%s %s", c.Type, c.Status, c.Reason, c.Message))
	}
	return strings.Join(out, " | ")
}

const (
	fine   = "Allocated=True/Allocated every address has a number | Assigned=True/Assigned every address with a number has a node"
	nobody = " | Assigned=False/NoAddress no address has a number"
)

// What becomes of Egress x, which is created in minute 5, beside others.
var synced = []struct {
	name       string
	x          *v1alpha1.Egress
	others     []*v1alpha1.Egress
	addresses  string // with nodes, not numbers
	conditions string
}{
	{"one address", egress("x", 5, "198.51.100.7"), nil, "198.51.100.7@n1", fine},
	{"both families, and another spelling", egress("x", 5, "198.51.100.7", "2001:DB8:0::7"), nil, "198.51.100.7@n1 2001:db8::7@n1", fine},
	{"one twice", egress("x", 5, "2001:db8::7", "2001:db8:0::7"), nil, "2001:db8::7@n1", fine},
	{"none", egress("x", 5), nil, "", "Allocated=False/NoAddress spec.egressIPs is empty: write addresses" + nobody},
	{"an older one has it", egress("x", 5, "198.51.100.7", "198.51.100.8"), []*v1alpha1.Egress{egress("y", 4, "198.51.100.7")}, "198.51.100.8@n1",
		"Allocated=False/AddressInUse 198.51.100.7: Egress y has it, which is older | Assigned=True/Assigned every address with a number has a node"},
	{"a younger one has it", egress("x", 5, "198.51.100.7"), []*v1alpha1.Egress{egress("a", 6, "198.51.100.7")}, "198.51.100.7@n1", fine},
	{"one of the same age and an earlier name has it", egress("x", 5, "198.51.100.7"), []*v1alpha1.Egress{egress("a", 5, "198.51.100.7")}, "",
		"Allocated=False/AddressInUse 198.51.100.7: Egress a has it, which comes first by name" + nobody},
	{"malformed, and a neighbour", egress("x", 5, "here", "198.51.100.7"), nil, "198.51.100.7@n1",
		"Allocated=False/InvalidAddress here: is no IP address: write one such as 198.51.100.7 or 2001:db8::7 | Assigned=True/Assigned every address with a number has a node"},
	{"with a zone", egress("x", 5, "fe80::1%eth0"), nil, "", "Allocated=False/InvalidAddress fe80::1%eth0: is no IP address: write one such as 198.51.100.7 or 2001:db8::7" + nobody},
	{"IPv4 as IPv6", egress("x", 5, "::ffff:198.51.100.7"), nil, "", "Allocated=False/InvalidAddress ::ffff:198.51.100.7: is no IP address: write one such as 198.51.100.7 or 2001:db8::7" + nobody},
	{"no connection's", egress("x", 5, "224.0.0.5", "127.0.0.1", "::", "fe80::1", "255.255.255.255"), nil, "",
		"Allocated=False/InvalidAddress 224.0.0.5: is a multicast address; 127.0.0.1: is a loopback address; ::: is the unspecified address; fe80::1: is a link-local address; 255.255.255.255: is the broadcast address" + nobody},
	{"a node's", egress("x", 5, "192.0.2.1", "203.0.113.1", "2001:db8:1::1"), nil, "",
		"Allocated=False/AddressOfCluster 192.0.2.1: is an address of Node n1; 203.0.113.1: is an address of Node n1; 2001:db8:1::1: is an address of Node n1" + nobody},
	{"a pod's", egress("x", 5, "10.244.1.7", "fd00:10:244:1::7", "10.244.9.7"), nil, "10.244.9.7@n1",
		"Allocated=False/AddressOfCluster 10.244.1.7: is in 10.244.1.0/24, the pods' addresses at Node n1; fd00:10:244:1::7: is in fd00:10:244:1::/64, the pods' addresses at Node n1 | Assigned=True/Assigned every address with a number has a node"},
	{"many wrong ones", egress("x", 5, strings.Split(strings.Repeat("no ", 12)+"no", " ")...), nil, "",
		"Allocated=False/InvalidAddress " + strings.Repeat("no: is no IP address: write one such as 198.51.100.7 or 2001:db8::7; ", 10) + "and 3 more" + nobody},
}

func TestSyncEgressIP(t *testing.T) {
	for _, tt := range synced {
		t.Run(tt.name, func(t *testing.T) {
			s := new(book).assign(clusterOf([]*corev1.Node{host(1)}, append(slices.Clone(tt.others), tt.x)...), now)["Egress x"]
			var got []string
			for _, a := range s.Addresses {
				got = append(got, a.IP+"@"+a.Node)
				if a.Number < 1 || a.Number > v1alpha1.MaxEgressNumber || a.Since == nil || !a.Since.Time.Equal(now) {
					t.Errorf("%+v", a)
				}
			}
			if got := strings.Join(got, " "); got != tt.addresses {
				t.Errorf("addresses %q, want %q", got, tt.addresses)
			}
			if got := conditionsOf(s); got != tt.conditions {
				t.Errorf("conditions\n%s, want\n%s", got, tt.conditions)
			}
		})
	}
}

// numbers are "IP=NUMBER@NODE" of an Egress, with a sign where it is since now.
func numbers(s Status) string {
	var out []string
	for _, a := range s.Addresses {
		text := fmt.Sprintf("%s=%d@%s", a.IP, a.Number, a.Node)
		if a.Since != nil && a.Since.Time.Equal(now) {
			text += "!"
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

func cordoned(n *corev1.Node) { n.Spec.Unschedulable = true }
func down(n *corev1.Node)     { n.Status.Conditions[0].Status = corev1.ConditionUnknown }
func onlyIPv4(n *corev1.Node) { n.Status.Addresses = n.Status.Addresses[:2] }
func drained(n *corev1.Node) {
	n.Spec.Taints = []corev1.Taint{{Key: "a", Effect: corev1.TaintEffectNoSchedule}, {Key: "b", Effect: corev1.TaintEffectNoExecute}}
}
func takes(most string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Annotations = map[string]string{MostEgressIPs: most} }
}
func labelled(most string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Labels = map[string]string{MostEgressIPs: most} }
}

// What an address has it keeps.
var keeping = []struct {
	name  string
	nodes []*corev1.Node
	all   []*v1alpha1.Egress
	want  string // of the first
}{
	{"all is as it was", []*corev1.Node{host(1), host(2)}, []*v1alpha1.Egress{having(egress("x", 5, "198.51.100.7"), "198.51.100.7 9 n2")}, "198.51.100.7=9@n2"},
	{"the node is not Ready", []*corev1.Node{host(1), host(2, down)}, []*v1alpha1.Egress{having(egress("x", 5, "198.51.100.7"), "198.51.100.7 9 n2")}, "198.51.100.7=9@n2"},
	{"the node is drained", []*corev1.Node{host(1), host(2, cordoned, drained, takes("0"))}, []*v1alpha1.Egress{having(egress("x", 5, "198.51.100.7"), "198.51.100.7 9 n2")}, "198.51.100.7=9@n2"},
	{"no Node is seen", nil, []*v1alpha1.Egress{having(egress("x", 5, "198.51.100.7"), "198.51.100.7 9 n2")}, "198.51.100.7=9@n2"},
	{"the Node is gone", []*corev1.Node{host(1)}, []*v1alpha1.Egress{having(egress("x", 5, "198.51.100.7"), "198.51.100.7 9 n2")}, "198.51.100.7=9@n1!"},
	{"another address beside it", []*corev1.Node{host(1, cordoned), host(2)}, []*v1alpha1.Egress{having(egress("x", 5, "198.51.100.7", "2001:db8::7"), "198.51.100.7 9 n1; 2001:db8::7 11 n1")}, "198.51.100.7=9@n1 2001:db8::7=11@n1"},
	{"the node lost the family", []*corev1.Node{host(1, onlyIPv4), host(2)}, []*v1alpha1.Egress{having(egress("x", 5, "198.51.100.7", "2001:db8::7"), "198.51.100.7 9 n1; 2001:db8::7 11 n1")}, "198.51.100.7=9@n1 2001:db8::7=11@n2!"},
	{"an address that is no longer asked for", []*corev1.Node{host(1)}, []*v1alpha1.Egress{having(egress("x", 5, "198.51.100.7"), "198.51.100.8 8 n1; 198.51.100.7 9 n1")}, "198.51.100.7=9@n1"},
	{"an older Egress takes it over", []*corev1.Node{host(1), host(2)}, []*v1alpha1.Egress{egress("x", 5, "198.51.100.7"), having(egress("y", 6, "198.51.100.7"), "198.51.100.7 9 n2")}, "198.51.100.7=9@n2"},
	{"it goes from one Egress to another", []*corev1.Node{host(1), host(2)}, []*v1alpha1.Egress{egress("x", 5, "198.51.100.7"), having(egress("y", 4, "198.51.100.8"), "198.51.100.7 9 n2; 198.51.100.8 8 n1")}, "198.51.100.7=9@n2"},
	{"another has its number, and is younger", []*corev1.Node{host(1)}, []*v1alpha1.Egress{having(egress("x", 5, "198.51.100.7"), "198.51.100.7 9 n1"), having(egress("y", 6, "198.51.100.8"), "198.51.100.8 9 n1")}, "198.51.100.7=9@n1"},
}

func TestAnAddressKeepsWhatItHas(t *testing.T) {
	for _, tt := range keeping {
		t.Run(tt.name, func(t *testing.T) {
			all := new(book).assign(clusterOf(tt.nodes, tt.all...), now)
			if got := numbers(all["Egress x"]); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			distinct(t, all)
		})
	}
}

// distinct fails where two addresses have one number, or two Egresses one address.
func distinct(t *testing.T, all map[string]Status) {
	t.Helper()
	whose, numbered := map[string]string{}, map[int]string{}
	for name, s := range all {
		for _, a := range s.Addresses {
			if whose[a.IP] != "" || numbered[a.Number] != "" {
				t.Errorf("%s of %s with number %d is %s's, and the number is that of %s", a.IP, name, a.Number, whose[a.IP], numbered[a.Number])
			}
			whose[a.IP], numbered[a.Number] = name, a.IP
		}
	}
}

func TestUpdateEgressAllocatedCondition(t *testing.T) {
	e := egress("x", 5, "198.51.100.7")
	for _, tt := range []struct {
		name, want string
		nodes      []*corev1.Node
	}{
		{"a node is there", fine, []*corev1.Node{host(1)}},
		{"no Node is seen", "Assigned=False/NoNode 198.51.100.7: no Node is known", nil},
		{"no node has the family", "NoNode 198.51.100.7: no Node has an IPv4 InternalIP", []*corev1.Node{host(1, func(n *corev1.Node) { n.Status.Addresses = n.Status.Addresses[2:] })}},
		{"all are closed", "NoNode 198.51.100.7: all Nodes with an IPv4 InternalIP are cordoned or not Ready or tainted NoExecute",
			[]*corev1.Node{host(1, cordoned), host(2, drained), host(3, down)}},
		{"all are full", "are at the number of addresses that they take", []*corev1.Node{host(1, takes("0")), host(2, labelled("0"))}},
		{"a limit that makes no sense is none", fine, []*corev1.Node{host(1, takes("-1"))}},
		{"the annotation counts before the label", fine, []*corev1.Node{host(1, labelled("0"), takes("1"))}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := new(book).assign(clusterOf(tt.nodes, e), now)["Egress x"]
			if got := conditionsOf(s); !strings.HasSuffix(got, tt.want) {
				t.Errorf("%s, want %s", got, tt.want)
			}
			for _, c := range s.Conditions {
				if c.ObservedGeneration != 1 {
					t.Errorf("%v", c)
				}
			}
		})
	}
}

// TestRecreate: an Egress that is made anew has its numbers again, and one with other
// addresses has others.
func TestRecreate(t *testing.T) {
	b, nodes := new(book), []*corev1.Node{host(1)}
	number := func(e *v1alpha1.Egress) int {
		t.Helper()
		s := b.assign(clusterOf(nodes, e), now)["Egress x"]
		if len(s.Addresses) != 1 {
			t.Fatalf("%v", s)
		}
		return s.Addresses[0].Number
	}
	first := number(egress("x", 5, "198.51.100.7"))
	b.assign(clusterOf(nodes), now)
	if again := number(egress("x", 6, "198.51.100.7")); again != first {
		t.Errorf("number %d after %d", again, first)
	}
	b.assign(clusterOf(nodes), now)
	for i := range 1000 {
		if n := number(egress("x", 6, netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}).String())); n == first {
			t.Fatalf("another address has number %d, which was just freed", n)
		}
	}
}

// When all numbers have been used, the one that was freed longest ago is given; when all
// are taken, none is.
func TestNumbersThatRunOut(t *testing.T) {
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}) }
	b, held := new(book), map[netip.Addr]int{}
	var want []netip.Addr
	for i := range v1alpha1.MaxEgressNumber + 10 {
		want = append(want, address(i))
	}
	b.give(held, want)
	if len(held) != v1alpha1.MaxEgressNumber {
		t.Fatalf("%d have a number", len(held))
	}
	var freed []int
	for _, i := range []int{5, 3, 9} {
		freed = append(freed, held[address(i)])
		delete(held, address(i))
		b.give(held, nil)
	}
	for k := range freed {
		other := netip.AddrFrom4([4]byte{203, 0, 113, byte(k)})
		if b.give(held, []netip.Addr{other}); held[other] != freed[k] {
			t.Errorf("number %d, want %d, which was freed first", held[other], freed[k])
		}
	}
}

// An agent that cannot do its part is enough for Degraded, others for its end.
func TestDegradedIsBadWhereItHolds(t *testing.T) {
	says := func(node string, status metav1.ConditionStatus, message string) *v1alpha1.FairleadNode {
		r := &v1alpha1.FairleadNode{ObjectMeta: metav1.ObjectMeta{Name: node}}
		r.Status.ObjectReports = []v1alpha1.ObjectReport{{Object: "Egress x", Type: "Degraded", Status: status, Reason: "Because", Message: message, ObservedGeneration: 1}}
		return r
	}
	for _, tt := range []struct {
		want    string
		reports []*v1alpha1.FairleadNode
	}{
		{"Unknown/NotRead no agent has read its current version", nil},
		{"False/Because read on 2 of 2 nodes, without a problem", []*v1alpha1.FairleadNode{says("n1", "False", ""), says("n2", "False", "")}},
		{"True/Because no route on 1 of 2 nodes (n2)", []*v1alpha1.FairleadNode{says("n1", "False", ""), says("n2", "True", "no route")}},
		{"False/Because read on 2 of 2 nodes, without a problem; cannot tell on 1 of 2 nodes (n2)", []*v1alpha1.FairleadNode{says("n1", "False", ""), says("n2", "Unknown", "cannot tell")}},
	} {
		c := clusterOf([]*corev1.Node{host(1), host(2)}, egress("x", 5, "198.51.100.7"))
		c.Reports = tt.reports
		got := c.Verdicts()["Egress x"]
		if d := meta.FindStatusCondition(got, "Degraded"); len(got) != 1 || fmt.Sprintf("%s/%s %s", d.Status, d.Reason, d.Message) != tt.want || d.ObservedGeneration != 1 {
			t.Errorf("%v, want %s", got, tt.want)
		}
	}
}
