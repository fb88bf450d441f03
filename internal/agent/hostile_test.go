package agent

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/events"
	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/world"
)

// selecting is a Service that asks for ports with a word that is none.
func selecting(namespace, name, word string) string {
	var value strings.Builder
	out := json.NewEncoder(&value)
	out.SetEscapeHTML(false) // or it is more than a document may have
	if err := out.Encode(word); err != nil {
		panic(err)
	}
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {namespace: %s, name: %s, annotations: {%s: %s}}\nspec: {selector: {app: web}}\n---\n",
		namespace, name, world.NodePortLocalEnabled, strings.TrimSpace(value.String()))
}

// bad are n Services of one tenant, each with a mistake.
func bad(n int) string {
	var all strings.Builder
	for i := range n {
		all.WriteString(selecting("tenant", fmt.Sprintf("s%d", i), "maybe"))
	}
	return all.String()
}

// logged is what was added to the log since the last time.
func (n *node) logged() string {
	n.log.mu.Lock()
	defer n.log.mu.Unlock()
	defer n.log.b.Reset()
	return n.log.b.String()
}

// What tenants write is told, and however long it is, and however much, the report
// and the log stay short.
func TestWhatTenantsWriteIsToldInFewWords(t *testing.T) {
	for name, long := range map[string]string{
		"letters":       strings.Repeat("x", 250_000),
		"line ends":     strings.Repeat("\n", 250_000),
		"markup":        strings.Repeat("<&>", 80_000),
		"long runes":    strings.Repeat("語", 80_000),
		"many of quote": strings.Repeat(`"\`, 100_000),
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, nodes)
			for i := range 5 {
				n.write(t, fmt.Sprintf("service%d.yaml", i), selecting("tenant", fmt.Sprintf("s%d", i), long))
			}
			n.mustTurn(t)
			if size := n.reportSize(t); size > 20<<10 {
				t.Errorf("the report has %d bytes", size)
			}
			if log := n.logged(); len(log) > 10<<10 || !strings.Contains(log, "(of ") {
				t.Errorf("the log has %d bytes: %.2000s", len(log), log)
			}
			for _, p := range n.snapshot.Load().Problems {
				if len(p.String()) > 4<<10 {
					t.Errorf("a problem of %d bytes is kept", len(p.String()))
				}
			}
		})
	}
}

// Of many mistakes some are listed and logged, and the rest is counted. What stays
// is not told again when another comes or goes.
func TestOnlyNewProblemsAreLoggedAndFewOfMany(t *testing.T) {
	const many = 2000
	n := newNode(t, nodes)
	now := time.Now()
	n.problemLog.Now = func() time.Time { return now }
	n.write(t, "tenant.yaml", bad(many))
	n.mustTurn(t)
	log := n.logged()
	if lines := strings.Count(log, "\n"); lines > 50 || !strings.Contains(log, fmt.Sprint(many-events.LogsAMinute)) {
		t.Errorf("%d lines, and none says how many more:\n%.5000s", lines, log)
	}
	status := n.report(n.snapshot.Load()).Node.Status
	if len(status.Problems)+int(status.MoreProblems) != many || len(status.Problems) == 0 {
		t.Errorf("%d problems and %d more, of %d", len(status.Problems), status.MoreProblems, many)
	}
	if size := n.reportSize(t); size > 64<<10 {
		t.Errorf("the report has %d bytes", size)
	}
	now = now.Add(time.Minute)
	n.write(t, "tenant.yaml", bad(many-1))
	n.mustTurn(t)
	n.write(t, "tenant.yaml", bad(many))
	n.mustTurn(t)
	if log := n.logged(); strings.Count(log, "msg=problem") != 1 || !strings.Contains(log, fmt.Sprintf("tenant/s%d", many-1)) {
		t.Errorf("not only what is new is logged:\n%.2000s", log)
	}
}

// A tenant does not hide from the cluster what is wrong with the node.
func TestTheNodesOwnProblemsAreListedFirst(t *testing.T) {
	n := newNode(t, nodes, `
apiVersion: fairlead.dev/v1alpha1
kind: AgentConfig
metadata: {name: default}
spec: {overlay: {interface: eth7}}
`)
	n.write(t, "tenant.yaml", bad(300))
	n.mustTurn(t)
	for _, p := range n.report(n.snapshot.Load()).Node.Status.Problems {
		if p.Object == "Node n1" && p.Field == "overlay.interface" {
			return
		}
	}
	t.Errorf("not listed: %v", n.snapshot.Load().Problems[len(n.snapshot.Load().Problems)-1])
}

// Whatever is in it, a FairleadNode stays small: there is one of each node, and all
// agents read them.
func TestAReportIsSmallWhateverIsInIt(t *testing.T) {
	n := newNode(t, nodes)
	n.mustTurn(t)
	s := *n.snapshot.Load()
	for _, filling := range []string{"x", "<", "\n", "語", "\xff", `"`} {
		long := strings.Repeat(filling, 300_000)
		s.Ready, s.Reason, s.Problems, s.Rendered.Reports = false, long, nil, nil
		for range 14 { // with Ready and PeersReachable they are 16
			s.Rendered.Reports = append(s.Rendered.Reports, world.Report{Object: "FairleadNode n1", Type: "SomeCondition", Reason: "SomeReason", Message: long})
		}
		for i := range 5000 {
			s.Rendered.Reports = append(s.Rendered.Reports, world.Report{Object: fmt.Sprint("Egress ", i, long[:2000]), Type: "Allocated", Reason: "Exhausted", Message: long})
			s.Problems = append(s.Problems, world.Problem{Object: long, Field: long, Reason: long, Hint: long, Source: long}.Told())
		}
		r := n.report(&s)
		text, err := json.Marshal(r.Node)
		must(t, err)
		if size := len(text); size > 64<<10 {
			t.Errorf("%q: the report has %d bytes", filling, size)
		}
		if got := len(r.Node.Status.Problems) + int(r.Node.Status.MoreProblems); got != 5000 {
			t.Errorf("%q: %d problems are told of", filling, got)
		}
		if got := len(r.Node.Status.ObjectReports) + int(r.Node.Status.MoreObjectReports); got != 5000 {
			t.Errorf("%q: %d reports about other objects are told of", filling, got)
		}
		if got := len(r.Node.Status.Conditions); got != 16 {
			t.Errorf("%q: %d conditions", filling, got)
		}
		if size := len(r.Network.Message); size > quote.Sentence {
			t.Errorf("%q: the Node's condition has %d bytes", filling, size)
		}
	}
}

// A refusal is short, whatever was asked: the runtime makes an event of it.
func TestARefusalIsShort(t *testing.T) {
	n := newNode(t, nodes)
	n.mustTurn(t)
	n.logged()
	long := strings.Repeat("x\n", 200_000)
	for what, q := range map[string]cni.Request{
		"container": {ContainerID: long, Interface: "eth0"},
		"interface": {ContainerID: "c1", Interface: long},
		"namespace": {ContainerID: "c1", Interface: "eth0", Netns: long},
		"pod":       {ContainerID: "c1", Interface: "eth0", Pod: long},
	} {
		code, body := n.post(t, "add", q)
		if code != http.StatusUnprocessableEntity || len(body) > 2*quote.Sentence || !strings.Contains(body, "of 400000 bytes") {
			t.Errorf("%s: %d, %d bytes: %.500s", what, code, len(body), body)
		}
	}
}

func (n *node) reportSize(t *testing.T) int {
	t.Helper()
	written, err := os.ReadFile(filepath.Join(n.dir, "n1.json"))
	if err != nil {
		t.Fatal(err)
	}
	return len(written)
}
