package source

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/world"
)

// Whatever an object says, what is taken out of it is in order, is the same each
// time and after a stay on disk, and what is not in order is told.
func FuzzDoor(f *testing.F) {
	for _, s := range []string{
		`{"metadata":{"name":"a","namespace":"b","uid":"u","labels":{"a":"b","":"","é":"ü"},"annotations":{"npl.fairlead.dev/x":"y","fairlead.dev":"","notfairlead.dev/a":"b"}},
			"spec":{"nodeName":"n1","containers":[{"ports":[{"name":"web","containerPort":80},{"containerPort":-1},{"containerPort":65537,"protocol":"SCTP"},{"containerPort":1,"protocol":"X"}]}]},
			"status":{"podIPs":[{"ip":"10.0.0.1"},{"ip":"::ffff:1.2.3.4"},{"ip":"fe80::1%eth0"}]}}`,
		`{"metadata":{"name":"a"},"spec":{"nodeName":"n2","hostNetwork":true},"status":{"phase":"Running","podIP":"x"}}`,
		`{"metadata":{"name":"s"},"spec":{"type":"NodePort","clusterIP":"None","ipFamilies":["IPv6"],"selector":{"a":"b"},
			"ports":[{"port":80,"targetPort":"web"},{"port":81},{"port":0},{"port":82,"targetPort":70000},{"port":83,"protocol":"ICMP"}]}}`,
		`{"metadata":{"labels":{"kubernetes.io/service-name":"s"}},"addressType":"IPv4","endpoints":[{"addresses":["10.0.0.1","x"],"conditions":{"ready":false},"nodeName":"n"},{},{"addresses":["x"]}],
			"ports":[{"port":80,"protocol":"UDP","name":"p"},{},{"port":-5}]}`,
		`{"metadata":{"name":"a","annotations":{"nodeportlocal.antrea.io":"[]","nodeportlocal.antrea.io/enabled":"true"}},"spec":{"nodeName":"n1",
			"containers":[{"ports":[{"containerPort":80,"hostPort":8080,"hostIP":"192.0.2.1"},{"containerPort":81,"hostPort":70000},{"containerPort":82,"hostPort":1,"hostIP":"x"}]}],
			"initContainers":[{"restartPolicy":"Always","ports":[{"name":"side","containerPort":9}]},{"ports":[{"name":"init","containerPort":10}]}]}}`,
		`{"metadata":{"name":"e","generation":3,"creationTimestamp":"2026-01-02T03:04:05Z"},"spec":{"egressIPs":["198.51.100.7","::ffff:198.51.100.7","x","fe80::1","2001:db8::7"],
			"exceptCIDRs":["10.0.0.0/8","10.0.0.1/8","x"],"randomizePorts":false,"portRange":"2-1","unavailable":"Never","appliedTo":{"podSelector":{"matchLabels":{"a":"b"},
			"matchExpressions":[{"key":"c","operator":"In","values":["d"]},{"key":"c","operator":"Exists","values":["d"]},{"key":"/","operator":"NotIn"}]},"namespaceSelector":{}}},
			"status":{"addresses":[{"ip":"198.51.100.7","number":5,"node":"n1"},{"ip":"2001:db8::7","number":16384},{"ip":"198.51.100.9","number":7}]}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		d := Door{Node: "n1"}
		var p corev1.Pod
		if json.Unmarshal(text, &p) == nil {
			pod, problems := d.Pod(&p)
			again, _ := Door{Node: "n1", Intern: func(s string) string { return s }}.Pod(&p)
			checkParsed(t, pod, again, problems)
			if pod != nil {
				if !pod.Equal(again) || len(pod.Addresses) == 0 && pod.Local == nil {
					t.Errorf("%+v, and then %+v", pod, again)
				}
				for name := range pod.Labels.All() {
					if v, ok := pod.Labels.Get(name); !ok || v != p.Labels[name] {
						t.Errorf("label %q is %q, want %q", name, v, p.Labels[name])
					}
				}
			}
		}
		checkEgress(t, d, text)
		var s corev1.Service
		if json.Unmarshal(text, &s) == nil {
			service, problems := d.Service(&s)
			again, _ := d.Service(&s)
			checkParsed(t, service, again, problems)
			if slices.ContainsFunc(service.Ports, func(p world.ServicePort) bool { return p.Port == 0 || p.TargetPort != 0 && p.TargetName != "" }) {
				t.Errorf("ports %v of %v", service.Ports, s.Spec.Ports)
			}
		}
	})
}

// checkEgress sees that no pod is selected by half a selector, and that every number is
// one that a packet can carry.
func checkEgress(t *testing.T, d Door, text []byte) {
	t.Helper()
	var o v1alpha1.Egress
	if json.Unmarshal(text, &o) != nil {
		return
	}
	e, problems := d.Egress(&o)
	again, _ := d.Egress(OfEgress(&o))
	checkParsed(t, e, again, problems)
	wrong := slices.ContainsFunc(problems, func(p world.Problem) bool { return strings.HasPrefix(p.Field, "spec.appliedTo") })
	if none := e.Namespaces == nil && e.Pods == nil; wrong && !none || !wrong && none != (o.Spec.AppliedTo == v1alpha1.EgressAppliedTo{}) {
		t.Errorf("%+v selects pods: %v; problems %v", o.Spec.AppliedTo, !none, problems)
	}
	seen := map[netip.Addr]bool{}
	for _, a := range e.Addresses {
		if seen[a.Address] || a.Address.Is4In6() || a.Number > world.LastEgressNumber || a.Number == 0 && a.Node != "" {
			t.Errorf("addresses %v", e.Addresses)
		}
		seen[a.Address] = true
	}
}

func checkParsed[T any](t *testing.T, got, again *T, problems []world.Problem) {
	t.Helper()
	text, err := json.Marshal(got)
	if err != nil {
		t.Fatal(err)
	}
	kept := new(T)
	if err := json.Unmarshal(text, kept); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if twice, err := json.Marshal(again); err != nil || string(twice) != string(text) {
		t.Errorf("%s, and then %s, error %v", text, twice, err)
	}
	if got != nil {
		if back, err := json.Marshal(kept); err != nil || string(back) != string(text) {
			t.Errorf("%s comes back as %s, error %v", text, back, err)
		}
	}
	for _, p := range problems {
		if p.Object == "" || p.Field == "" || p.Reason == "" || p.Hint == "" {
			t.Errorf("%#v says too little", p)
		}
	}
}

// Ports of sidecars are the pod's, those of containers that run before it are not.
func TestPortsOfAPod(t *testing.T) {
	var o corev1.Pod
	must(t, json.Unmarshal([]byte(`{"metadata":{"namespace":"b","name":"a","annotations":{"nodeportlocal.antrea.io":"[]","example.com/a":"b"}},"spec":{"nodeName":"n1",
		"containers":[{"ports":[{"name":"web","containerPort":80,"hostPort":8080,"hostIP":"192.0.2.1"},{"containerPort":53,"protocol":"UDP","hostPort":53},{"containerPort":82,"hostPort":1,"hostIP":"x"}]}],
		"initContainers":[{"restartPolicy":"Always","ports":[{"name":"side","containerPort":9}]},{"ports":[{"name":"init","containerPort":10}]}]}}`), &o))
	p, problems := Door{Node: "n1"}.Pod(&o)
	want := &world.LocalPod{Annotations: world.NewLabels(map[string]string{world.NodePortLocalPorts: "[]"}),
		Ports:     []world.ContainerPort{{Name: "web", Port: 80, Protocol: 6}, {Port: 53, Protocol: 17}, {Port: 82, Protocol: 6}, {Name: "side", Port: 9, Protocol: 6}},
		HostPorts: []world.HostPort{{Address: netip.MustParseAddr("192.0.2.1"), Port: 8080, Protocol: 6, PodPort: 80}, {Port: 53, Protocol: 17, PodPort: 53}}}
	if !p.Local.Equal(want) {
		t.Errorf("%+v, want %+v", p.Local, want)
	}
	if len(problems) != 1 || problems[0].Field != "spec.containers[0].ports[2].hostIP" {
		t.Errorf("problems %v", problems)
	}
}

// The node's external addresses are none of those that the overlay uses.
func TestExternalAddressesStandApart(t *testing.T) {
	n := &corev1.Node{Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
		{Type: corev1.NodeExternalIP, Address: "203.0.113.1"}, {Type: corev1.NodeHostName, Address: "n1"}, {Type: corev1.NodeInternalIP, Address: "192.0.2.1"},
	}}}
	m := parseNode(n)
	if want := (&world.Node{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}, External: []netip.Addr{netip.MustParseAddr("203.0.113.1")}}); !m.node.Equal(want) {
		t.Errorf("%+v, want %+v", m.node, want)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
