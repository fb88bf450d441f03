package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"
)

// Here is Antrea's TestNodePortLocal: each test names the parts of it that it shows.

// twoPorts is a pod with two containers, and the Services one and two that ask for a
// port of the node each.
const twoPorts = `
apiVersion: v1
kind: Pod
metadata: {name: served, namespace: %[1]s, labels: {app: served}}
spec:
  nodeName: node2
  terminationGracePeriodSeconds: 0
  containers:
  - {name: one, image: AGNHOST, imagePullPolicy: Never, args: [netexec, --http-port=9090, --udp-port=9090], ports: [{containerPort: 9090}]}
  - {name: two, image: AGNHOST, imagePullPolicy: Never, args: [netexec, --http-port=9000, --udp-port=9000], ports: [{containerPort: 9000}]}
---
apiVersion: v1
kind: Service
metadata: {name: one, namespace: %[1]s, annotations: {nodeportlocal.antrea.io/enabled: "true"}}
spec: {selector: {app: served}, ports: [{name: tcp, port: 80, targetPort: 9090}, {name: udp, port: 80, targetPort: 9090, protocol: UDP}]}
---
apiVersion: v1
kind: Service
metadata: {name: two, namespace: %[1]s, annotations: {nodeportlocal.antrea.io/enabled: "true"}}
spec: {type: LoadBalancer, ipFamilyPolicy: PreferDualStack, selector: {app: served}, ports: [{port: 80, targetPort: 9000}]}
`

type mapping struct {
	PodPort, NodePort          int
	NodeIP, Protocol, IPFamily string
}

// mappings are what the annotation of a pod says.
func mappings(t *testing.T, ns, pod string) (list []mapping) {
	t.Helper()
	text := kubectl(t, "get", "pod", "-n", ns, pod, "-o", `jsonpath={.metadata.annotations.nodeportlocal\.antrea\.io}`)
	if text == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return list
}

// toPort waits for the pod to have so many mappings, and returns those of the port.
func toPort(t *testing.T, ns string, port, count int) (out []mapping) {
	t.Helper()
	until(t, fmt.Sprintf("the pod has %d mappings", count), func() error {
		out = nil
		list := mappings(t, ns, "served")
		for _, m := range list {
			if m.PodPort == port {
				out = append(out, m)
			}
		}
		if len(list) != count {
			return fmt.Errorf("it has %+v", list)
		}
		return nil
	})
	return out
}

// asker asks a web server by one connection, and tells whether it was the same as
// before.
type asker struct {
	http.Client
	url    string
	reused bool
}

func (a *asker) ask(t *testing.T) string {
	t.Helper()
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { a.reused = i.Reused }})
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, a.url+"/hostname", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := a.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// Of two Services that ask for ports of one pod one does not any more: of that all
// goes within seconds, rule, socket and annotation, whoever uses the other port
// notices nothing, and no agent complains.
//
// Antrea: testNPLAddPod, NPLTestPodAddMultiPort and, with a Service that goes,
// NPLTestPodAddMultiProtocol. NPLTestMultiplePods needs no cluster: the agent's
// TestPortsOfSeveralPods shows it.
func TestOneOfTwoMappingsGoes(t *testing.T) {
	ns := namespace(t)
	apply(t, fmt.Sprintf(twoPorts, ns))
	ready(t, ns, "served")
	one := toPort(t, ns, 9090, 2+len(families()))
	two := toPort(t, ns, 9000, 2+len(families()))
	if len(one) != 2 || len(two) != len(families()) {
		t.Fatalf("mapped are %+v and %+v", one, two)
	}
	kept := &asker{url: "http://" + net.JoinHostPort(two[0].NodeIP, fmt.Sprint(two[0].NodePort))}
	for _, m := range append(two, one[0]) {
		at := "http://" + net.JoinHostPort(m.NodeIP, fmt.Sprint(m.NodePort))
		if got := (&asker{url: at}).ask(t); got != "served" {
			t.Errorf("%s is %q", at, got)
		}
	}
	kept.ask(t)
	since := time.Now()
	kubectl(t, "annotate", "service", "-n", ns, "one", "nodeportlocal.antrea.io/enabled-")
	toPort(t, ns, 9000, len(families()))
	t.Logf("the annotation followed within %s", time.Since(since).Round(time.Millisecond))
	if got := kept.ask(t); got != "served" || !kept.reused {
		t.Errorf("%q answers, on the same connection: %v", got, kept.reused)
	}
	node := shared.Node("node2")
	table, err := node.Command(t.Context(), "nft", "list", "map", "inet", "fairlead-nodeportlocal", "ports4").Output()
	if err != nil || strings.Contains(table, " . 9090") || !strings.Contains(table, " . 9000") {
		t.Errorf("the kernel leads %s, %v", table, err)
	}
	// Nobody holds the port: another program can have it.
	if out, err := node.Command(t.Context(), "timeout", "1", "bash", "-c", fmt.Sprintf("exec 3<>/dev/tcp/127.0.0.1/%d", one[0].NodePort)).Output(); err == nil {
		t.Errorf("somebody listens: %q", out)
	}
	until(t, "no port is held for nothing", func() error {
		metrics, err := node.Command(t.Context(), "curl", "-sS", "-f", "-m", "5", "http://127.0.0.1:9468/metrics").Output()
		want := fmt.Sprintf(`fairlead_nodeportlocal_ports{state="reserved"} %d`, len(families()))
		if err != nil || !strings.Contains(metrics, want) || !strings.Contains(metrics, `fairlead_nodeportlocal_ports{state="unreleased"} 0`) {
			return fmt.Errorf("want %s: %w", want, err)
		}
		return nil
	})
	log := kubectl(t, "logs", "-n", "fairlead-system", "-l", "app.kubernetes.io/component=agent", "--tail=-1", "--since-time="+since.UTC().Format(time.RFC3339))
	if strings.Contains(log, `level=ERROR`) || !strings.Contains(log, "msg=applied") {
		t.Errorf("the agents' log:\n%s", log)
	}
	kubectl(t, "delete", "service", "-n", ns, "two")
	toPort(t, ns, 9000, 0)
}

// What another agent, or somebody else, wrote on a pod is put right: taken over
// where the pod has mappings, and away where it has none.
func TestAnnotationsOfOthers(t *testing.T) {
	ns := namespace(t)
	apply(t, fmt.Sprintf(twoPorts, ns))
	ready(t, ns, "served")
	want := toPort(t, ns, 9000, 2+len(families()))
	write := func(value string) {
		kubectl(t, "annotate", "pod", "-n", ns, "served", "--overwrite", "--field-manager=antrea-agent", "nodeportlocal.antrea.io="+value)
	}
	write(`[{"podPort":1,"nodeIP":"192.0.2.1","nodePort":61000,"protocol":"tcp","ipFamily":"IPv4"}]`)
	if got := toPort(t, ns, 9000, 2+len(families())); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the pod has %+v, and had %+v", got, want)
	}
	kubectl(t, "delete", "service", "-n", ns, "one", "two")
	toPort(t, ns, 9000, 0)
	write("what?")
	until(t, "the annotation goes", func() error {
		if text := kubectl(t, "get", "pod", "-n", ns, "served", "-o", `jsonpath={.metadata.annotations}`); strings.Contains(text, "nodeportlocal") {
			return fmt.Errorf("there is %s", text)
		}
		return nil
	})
}

// families are those that pods of the cluster have.
func families() []string {
	var out []string
	for _, a := range shared.Node("node2").Addresses() {
		out = append(out, a.String())
	}
	return out
}

// A restart of the agent changes no mapping, and puts back what was done away with
// meanwhile; another range moves them. From the node itself ports lead to the pod
// too, but not by its loopback.
//
// Antrea: NPLTestLocalAccess, testNPLMultiplePodsAgentRestart (with the rule that is
// gone) and testNPLChangePortRangeAgentRestart.
func TestMappingsOutliveTheAgent(t *testing.T) {
	ns := namespace(t)
	apply(t, fmt.Sprintf(twoPorts, ns))
	ready(t, ns, "served")
	before := toPort(t, ns, 9000, 2+len(families()))
	node, at := shared.Node("node2"), net.JoinHostPort(before[0].NodeIP, fmt.Sprint(before[0].NodePort))
	fetch := func(at string) (string, error) {
		return node.Command(t.Context(), "curl", "-sS", "-f", "-m", "5", "http://"+at+"/hostname").Output()
	}
	until(t, "the node reaches its pod", func() error {
		if out, err := fetch(at); err != nil || out != "served" {
			return fmt.Errorf("%s is %q, %w", at, out, err)
		}
		return nil
	})
	if out, err := fetch(net.JoinHostPort("127.0.0.1", fmt.Sprint(before[0].NodePort))); err == nil {
		t.Errorf("on the loopback %q answers", out)
	}
	killAgent(t, "node2")
	if _, err := node.Command(t.Context(), "nft", "flush", "map", "inet", "fairlead-nodeportlocal", "ports4").Output(); err != nil {
		t.Fatal(err)
	}
	until(t, "the mapping is back", func() error {
		if out, err := fetch(at); err != nil || out != "served" {
			return fmt.Errorf("%s is %q, %w", at, out, err)
		}
		return nil
	})
	if after := toPort(t, ns, 9000, 2+len(families())); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("mapped are %+v, and were %+v", after, before)
	}
	apply(t, "{apiVersion: fairlead.dev/v1alpha1, kind: AgentConfig, metadata: {name: node2}, spec: {nodePortLocal: {portRange: 62100-62200}}}")
	t.Cleanup(func() { _, _ = tryKubectl(context.Background(), "", "delete", "agentconfig", "node2") })
	until(t, "mappings are in the new range", func() error {
		for _, m := range mappings(t, ns, "served") {
			if m.NodePort < 62100 {
				return fmt.Errorf("there is %+v", m)
			}
			if out, err := fetch(net.JoinHostPort(m.NodeIP, fmt.Sprint(m.NodePort))); m.Protocol == "tcp" && (err != nil || out != "served") {
				return fmt.Errorf("%+v is %q, %w", m, out, err)
			}
		}
		return nil
	})
	if out, err := fetch(at); err == nil {
		t.Errorf("on the old port %q answers", out)
	}
}
