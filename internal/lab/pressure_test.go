package lab_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

const fewPorts = `
apiVersion: lab.fairlead.dev/v1alpha1
kind: Lab
nodes: 1
hosts: [{name: web, addresses: [198.51.100.10/24]}]
agent: {nodeSNATRandomizePorts: true, nodeSNATPortRange: 40000-40099}
`

// A pod's block is watched by itself.
func TestScarceBlocksAreTold(t *testing.T) {
	l := newLab(t, "block")
	l.mustWith(strings.Replace(fewPorts, "40000-40099", "40000-40999, nodeSNATPortBlock: 50", 1), "up", "-f", "/dev/stdin")
	l.mustWith(twoPods[:strings.Index(twoPods, "---")], "apply", "-f", "-")
	l.asked("pod/default/a", "tcp", "198.51.100.10:8080")
	l.must("exec", "pod/default/a", "--", "sh", "-c", "for i in $(seq 38); do fairlead lab ask tcp 198.51.100.10:8080; done")
	told := regexp.MustCompile(`SNATPortsScarce .*ports 40\d[05]0-40\d[49]9: .* 3\d of 50 are in use .*larger nodeSNATPortBlock`)
	eventually(t, "an event", func() bool { return told.MatchString(l.must("get", "events")) })
}

// Ports that get scarce are told of where everybody looks.
func TestScarcePortsAreShown(t *testing.T) {
	l := newLab(t, "scarce")
	l.mustWith(fewPorts, "up", "-f", "/dev/stdin")
	l.mustWith(twoPods[:strings.Index(twoPods, "---")], "apply", "-f", "-")
	l.asked("pod/default/a", "tcp", "198.51.100.10:8080")
	if have := l.must("get", "events"); have != "none\n" {
		t.Errorf("a quiet lab has events:\n%s", have)
	}
	// A closed connection keeps its port for two minutes.
	l.must("exec", "pod/default/a", "--", "sh", "-c", "for i in $(seq 75); do fairlead lab ask tcp 198.51.100.10:8080; done")
	var list struct {
		APIVersion, Kind string
		Items            []struct {
			APIVersion, Kind, Type, Reason, Message string
			Count                                   int
			InvolvedObject                          struct{ Kind, Name string }
			Metadata                                struct{ Name, Namespace string }
		}
	}
	eventually(t, "an event", func() bool {
		if err := json.Unmarshal([]byte(l.must("get", "events", "-o", "json")), &list); err != nil {
			t.Fatal(err)
		}
		return len(list.Items) > 0
	})
	e := list.Items[0]
	if list.APIVersion != "v1" || list.Kind != "List" || e.APIVersion != "v1" || e.Kind != "Event" || e.Metadata.Namespace != "default" ||
		e.Reason != "SNATPortsScarce" || e.Type != "Warning" || e.Count != 1 || e.InvolvedObject != struct{ Kind, Name string }{"Node", "n1"} {
		t.Errorf("events are %s %s, the first %+v", list.APIVersion, list.Kind, e)
	}
	node := l.status().Nodes[0].Addresses[0]
	for _, want := range []string{"tcp 198.51.100.10:8080 from " + node, "of 100 are in use", "closed connections", "32768-65535"} {
		if !strings.Contains(e.Message, want) {
			t.Errorf("%q does not say %q", e.Message, want)
		}
	}
	wide := l.must("exec", "node/n1", "--", "fairlead", "get", "snat", "-o", "wide")
	// While ports run short closed connections are soon forgotten: some may be already.
	for _, want := range []string{`tcp 198\.51\.100\.10:8080  ` + node + `  40000-40099  7\d of 100, [67]\d closed  █{14,15}░{5,6}  7\d %`, "insert failed", `PORTS of tcp 198\.51\.100\.10:8080`, "40000  "} {
		if !regexp.MustCompile(want).MatchString(wide) {
			t.Errorf("get snat -o wide lacks %q:\n%s", want, wide)
		}
	}
	if doctor := l.run("exec", "node/n1", "--", "fairlead", "doctor"); !strings.Contains(doctor.stdout, "WARN  snat-pressure") {
		t.Errorf("the doctor says\n%s", doctor.stdout)
	}
	if log := l.must("logs", "node/n1"); strings.Count(log, "SNATPortsScarce") != 1 {
		t.Errorf("the log says\n%s", log)
	}
}
