package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"

	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/world"
)

// A Trial is one connection that the demo tried.
type Trial struct {
	Tried    string
	Expected string
	Seen     string
	OK       bool
}

// demoNamespace keeps the demo's pods apart from the user's.
const demoNamespace = "demo"

// Demo runs pods a and b on the first node and c on the second, connects them
// and the first host, and compares who the other end sees with who it should.
func (l Lab) Demo(ctx context.Context) ([]Trial, error) {
	s, err := l.Status(ctx)
	if err != nil {
		return nil, err
	}
	if len(s.Nodes) < 2 || len(s.Hosts) == 0 {
		return nil, errors.New("the demo needs two nodes and a host, as fairlead lab up makes them")
	}
	if err := l.demoPods(ctx, s); err != nil {
		return nil, err
	}
	if s, err = l.Status(ctx); err != nil {
		return nil, err
	}
	ports, err := l.snatPorts(ctx, s.Nodes[0].Name)
	if err != nil {
		return nil, err
	}
	pods := map[string]PodStatus{}
	for _, p := range s.Pods {
		if p.Namespace == demoNamespace {
			pods[p.Name] = p
		}
	}
	var out []Trial
	for _, other := range []struct{ pod, where string }{{"b", "same node"}, {"c", "other node"}} {
		for _, to := range pods[other.pod].PodIPs {
			from := sameFamily(pods["a"].PodIPs, to)
			q := question{"tcp", to, "pod " + other.pod + ", " + other.where}
			out = append(out, l.try(ctx, pods["a"].Netns, q, expectation{from, world.PortRange{Low: 1, High: 65535}}))
		}
	}
	for _, to := range s.Hosts[0].Addresses {
		from := sameFamily(s.Nodes[0].Addresses, to)
		for _, protocol := range []string{"tcp", "udp"} {
			q := question{protocol, to, "host " + s.Hosts[0].Name}
			out = append(out, l.try(ctx, pods["a"].Netns, q, expectation{from, ports}))
		}
	}
	return out, nil
}

// demoPods applies the demo's pods.
func (l Lab) demoPods(ctx context.Context, s Status) error {
	var b strings.Builder
	for _, p := range []struct{ name, node string }{{"a", s.Nodes[0].Name}, {"b", s.Nodes[0].Name}, {"c", s.Nodes[1].Name}} {
		fmt.Fprintf(&b, `---
apiVersion: v1
kind: Pod
metadata: {namespace: %s, name: %s}
spec:
  nodeName: %s
  containers: [{name: echo, command: [fairlead, lab, echo]}]
`, demoNamespace, p.name, p.node)
	}
	r, err := l.Apply(ctx, Change{Files: []Manifest{{Source: "demo", Content: []byte(b.String())}}, Wait: 30 * time.Second})
	if err != nil {
		return err
	}
	for _, p := range append(r.Rejected, r.Problems...) {
		r.Lagging = append(r.Lagging, p.String())
	}
	if len(r.Lagging) > 0 {
		return errors.New(strings.Join(r.Lagging, "\n"))
	}
	return nil
}

// snatPorts is the range from which the node's agent takes source ports.
func (l Lab) snatPorts(ctx context.Context, node string) (world.PortRange, error) {
	var list struct {
		Items []struct {
			Range string `json:"range"`
		} `json:"items"`
	}
	var ports world.PortRange
	if err := call(ctx, l.AgentSocket(node), exchange{http.MethodGet, "/v1/snat", nil, &list}); err != nil {
		return ports, fmt.Errorf("agent of %s: %w", node, err)
	}
	if len(list.Items) == 0 {
		return ports, fmt.Errorf("the agent of %s says nothing about source ports", node)
	}
	if _, err := fmt.Sscanf(list.Items[0].Range, "%d-%d", &ports.Low, &ports.High); err != nil {
		return world.PortRange{Low: 1, High: 65535}, nil // no range in force
	}
	return ports, nil
}

func sameFamily(list []string, like string) string {
	for _, a := range list {
		if strings.Contains(a, ":") == strings.Contains(like, ":") {
			return a
		}
	}
	return ""
}

// question is what to ask whom.
type question struct{ protocol, server, name string }

// expectation is who the server should see.
type expectation struct {
	address string
	ports   world.PortRange
}

func (e expectation) String() string {
	if e.ports.Low <= 1 {
		return e.address
	}
	return fmt.Sprintf("%s port %s", e.address, e.ports)
}

func (e expectation) met(seen string) bool {
	p, err := netip.ParseAddrPort(seen)
	return err == nil && p.Addr().String() == e.address && e.ports.Contains(p.Port())
}

// try asks from the namespace, and shows what came of it.
func (l Lab) try(ctx context.Context, from string, q question, e expectation) Trial {
	version := "IPv4"
	if strings.Contains(q.server, ":") {
		version = "IPv6"
	}
	t := Trial{Tried: fmt.Sprintf("pod a to %s, %s %s", q.name, version, strings.ToUpper(q.protocol)), Expected: e.String()}
	seen, err := l.askFrom(ctx, from, q)
	if err != nil {
		t.Seen = err.Error()
		return t
	}
	t.Seen, t.OK = seen, e.met(seen)
	return t
}

// askFrom runs the client inside the namespace. A server that was started a
// moment ago gets a few seconds to listen.
func (l Lab) askFrom(ctx context.Context, from string, q question) (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	tick := time.NewTicker(retryEvery)
	defer tick.Stop()
	for {
		var out, said bytes.Buffer
		ask := exec.CommandContext(ctx, self, "lab", "ask", "--timeout=2s", q.protocol, netip.AddrPortFrom(netip.MustParseAddr(q.server), 8080).String())
		ask.Stdout, ask.Stderr = &out, &said
		err := netns.Start(from, ask)
		if err == nil {
			err = ask.Wait()
		}
		if err == nil {
			return strings.TrimSpace(out.String()), nil
		}
		if !strings.Contains(said.String(), "refused") {
			return "", orError(said.String(), err)
		}
		select {
		case <-ctx.Done():
			return "", orError(said.String(), err)
		case <-tick.C:
		}
	}
}

// orError is what a command said, or else how it ended.
func orError(said string, err error) error {
	if said = strings.TrimPrefix(strings.TrimSpace(said), "fairlead: "); said != "" {
		return errors.New(said)
	}
	return err
}
