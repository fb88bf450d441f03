package agent

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/netnstest"
)

// Where somebody leads the packets elsewhere, a visit of the doctor shows it.
func TestDoctorTriesMappings(t *testing.T) {
	n := newNode(t, nodes)
	pod := netnstest.New(t)
	address := n.attach(t, "a", pod).Addresses[0].String()
	n.write(t, "npl.yaml", documents(podObject("a", address, ""), service("a", "a", "9090", "TCP")))
	n.mustTurn(t)
	if found := n.asked(t, ""); len(found) != 1 || found[0].Status != doctor.OK {
		t.Errorf("nobody listens in the pod, and the doctor finds: %+v", found)
	}
	echo(t, pod, 9090)
	n.host.Run("nft", "add table inet other; add chain inet other out { type nat hook output priority -150; }; add rule inet other out tcp dport 61000 dnat ip to 192.168.100.1:9")
	for _, pod := range []string{"", "default/a"} {
		if found := n.asked(t, pod); len(found) != 1 || found[0].Status != doctor.Fail || found[0].Object != "Pod default/a" {
			t.Errorf("asked about %q, the doctor finds: %+v", pod, found)
		}
	}
	if found := n.asked(t, "default/b"); len(found) != 1 || found[0].Status != doctor.Warn || found[0].Object != "Pod default/b" {
		t.Errorf("asked about a pod that is none, the doctor finds: %+v", found)
	}
}

// asked is what the doctor finds about NodePortLocal, and about a pod.
func (n *node) asked(t *testing.T, pod string) []doctor.Finding {
	t.Helper()
	var found Findings
	n.host.Do(func() error {
		w := httptest.NewRecorder()
		n.serveDoctor(w, httptest.NewRequest(http.MethodGet, "/v1/doctor?pod="+pod, nil))
		return json.Unmarshal(w.Body.Bytes(), &found)
	})
	return slices.DeleteFunc(found.Findings, func(f doctor.Finding) bool { return f.ID != "nodeportlocal" })
}
