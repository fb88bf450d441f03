package source

import (
	"encoding/json"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

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
		var s corev1.Service
		if json.Unmarshal(text, &s) == nil {
			service, problems := d.Service(&s)
			again, _ := d.Service(&s)
			checkParsed(t, service, again, problems)
			if slices.ContainsFunc(service.Ports, func(p world.ServicePort) bool { return p.Port == 0 || p.TargetPort != 0 && p.TargetName != "" }) {
				t.Errorf("ports %v of %v", service.Ports, s.Spec.Ports)
			}
		}
		var e discoveryv1.EndpointSlice
		if json.Unmarshal(text, &e) == nil {
			slice := d.EndpointSlice(&e)
			checkParsed(t, slice, d.EndpointSlice(&e), nil)
			if slice != nil && slices.ContainsFunc(slice.Endpoints, func(e world.Endpoint) bool { return !e.Address.IsValid() }) {
				t.Errorf("endpoints %v", slice.Endpoints)
			}
		}
	})
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
