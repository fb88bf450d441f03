package agent

import (
	"encoding/json"
	"strings"
	"testing"
)

// What is in force on a node is in its report, and another node that reads it says
// where the two differ.
func TestAgentsCompareWhatIsInForce(t *testing.T) {
	t.Parallel()
	n := newNode(t, nodes)
	n.mustTurn(t)
	report := *n.report(n.snapshot.Load()).Node
	if o := report.Status.Overlay; o == nil || o.Mode != "vxlan" || o.Port != 4789 || o.VNI != 1 || o.MTU != 1450 || o.Encryption != "none" {
		t.Fatalf("in force is %+v", o)
	}
	report.Name = "n2"
	for port, want := range map[int]bool{4789: false, 8472: true} {
		report.Status.Overlay.Port = port
		content, err := json.Marshal(report)
		must(t, err)
		n.write(t, "n2.json", string(content))
		n.mustTurn(t)
		var told string
		for _, p := range n.snapshot.Load().Problems {
			told += p.String() + "\n"
		}
		if strings.Contains(told, "FairleadNode n2: status.overlay.port: is 8472, and 4789 on Node n1") != want {
			t.Errorf("where n2 has port %d, n1 says %q", port, told)
		}
	}
}
