package agent

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/world"
)

// A host port of an address that the node lacks is told to its pod, and to nobody
// as a way there; once the node has the address both follow.
func TestAHostPortWaitsForItsAddress(t *testing.T) {
	n := newNode(t, nodes)
	n.far.Address("eth0", "192.168.100.7/24")
	pod := netnstest.New(t)
	q := cni.Request{Namespace: "default", Pod: "a", ContainerID: "c1", Interface: "eth0", Netns: pod.Path, HostPorts: []world.HostPort{
		{Address: netip.MustParseAddr("192.168.100.9"), Port: 5432, Protocol: unix.IPPROTO_TCP, PodPort: 9191}}}
	n.start(t)
	if code, body := n.post(t, "add", q); code != http.StatusOK {
		t.Fatalf("add: %d %s", code, body)
	}
	echo(t, pod, 9191)
	n.write(t, "npl.yaml", documents(service("a", "a", "9191", "TCP"), fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: a, namespace: default, uid: u-a, labels: {app: a}}
spec: {nodeName: n1, containers: [{name: c, image: c, ports: [{containerPort: 9191, hostPort: 5432, hostIP: 192.168.100.9}]}]}
status: {podIP: %s}
`, n.book.Attachments().List[0].Addresses[0])))
	told := func() (told string, problems []string) {
		s, err := n.Sync(t.Context())
		must(t, err)
		for _, p := range s.Problems {
			if p.Object == "Pod default/a" && strings.Contains(p.Reason, "192.168.100.9 is no address of node n1") {
				problems = append(problems, p.Field)
			}
		}
		for note := range s.Rendered.Notes.All() {
			told += ports(note.Value)
		}
		return told, problems
	}
	if got, problems := told(); got != "" || len(problems) != 2 {
		t.Errorf("without the address: told %q, problems of %q", got, problems)
	}
	if !slices.ContainsFunc(n.snapshot.Load().Rendered.Events, func(e world.Event) bool { return e.Object == "Pod default/a" && e.Reason == "HostPortNotLed" }) {
		t.Error("the pod has no event")
	}
	n.host.Address("eth0", "192.168.100.9/24")
	if got, problems := told(); got != "5432>9191/tcp" || len(problems) != 0 {
		t.Errorf("with the address: told %q, problems of %q", got, problems)
	}
	answered(t, dial(t, n.far, "192.168.100.9:5432"))
}
