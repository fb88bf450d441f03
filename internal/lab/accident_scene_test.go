package lab_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/netns"
)

// A scene is a lab with pod a on n1 and pod b on n2, and traffic between them
// that goes on whatever happens: streams in both directions and of both
// families, and many connections on which nothing is said.
type scene struct {
	testLab
	listeners []net.Listener // of b, one of each family
	streams   []*stream
	idle      idle
	netns     map[string]string // of nodes and pods
}

func newScene(t *testing.T, name, config string) *scene {
	t.Helper()
	s := &scene{testLab: newLab(t, name), netns: map[string]string{}}
	s.mustWith(config, "up", "-f", "/dev/stdin")
	s.mustWith(`
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: default}
spec: {nodeName: n1, containers: [{name: c}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: default}
spec: {nodeName: n2, containers: [{name: c}]}
`, "apply", "-f", "-")
	status := s.status()
	for _, n := range status.Nodes {
		s.netns[n.Name] = n.Netns
	}
	for _, p := range status.Pods {
		s.netns[p.Name] = p.Netns
	}
	for _, ip := range s.pod("b").PodIPs {
		to := listen(t, s.netns["b"], net.JoinHostPort(ip, "7000"))
		s.listeners = append(s.listeners, to)
		s.idle = append(s.idle, idleBetween(t, s.netns["a"], to, idleConnections/2)...)
	}
	s.stream(t)
	return s
}

// stream opens one more connection of each family, and sends both ways.
func (s *scene) stream(t *testing.T) {
	t.Helper()
	for _, to := range s.listeners {
		near, far := dial(t, s.netns["a"], to)
		s.streams = append(s.streams, pacedStream(near, far, 4*time.Millisecond), pacedStream(far, near, 4*time.Millisecond))
	}
}

// flow waits until bytes have arrived on every stream.
func (s *scene) flow(t *testing.T) {
	t.Helper()
	for _, one := range s.streams {
		one.flow(t, 300_000)
	}
}

// end checks that nothing was lost on the way, and that every connection lives.
func (s *scene) end(t *testing.T) {
	t.Helper()
	for _, one := range s.streams {
		one.end(t)
	}
	s.idle.speak(t)
}

// on runs a script in the namespace of a node or pod, and returns what it says.
func (s *scene) on(t *testing.T, where, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-ec", script)
	cmd.WaitDelay = time.Second
	var out []byte
	if err := netns.Do(s.netns[where], func() (err error) { out, err = cmd.CombinedOutput(); return err }); err != nil {
		t.Fatalf("%s: %s: %v\n%s", where, script, errors.Join(err, ctx.Err()), out)
	}
	return string(out)
}

// become waits until ok, and says how long that took.
func become(t *testing.T, what string, ok func() bool) {
	t.Helper()
	began := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("never came true: %s", what)
		}
	}
	t.Logf("%s: after %d ms", what, time.Since(began).Milliseconds())
}

// configure applies settings to one node, or with "default" to all.
func (s *scene) configure(name, overlay string) {
	s.t.Helper()
	s.mustWith(fmt.Sprintf(`{apiVersion: fairlead.dev/v1alpha1, kind: AgentConfig, metadata: {name: %s}, spec: {overlay: %s}}`, name, overlay), "apply", "-f", "-")
}

// unconfigure deletes the settings of nodes.
func (s *scene) unconfigure(names ...string) {
	s.t.Helper()
	for _, name := range names {
		s.mustWith(fmt.Sprintf(`{apiVersion: fairlead.dev/v1alpha1, kind: AgentConfig, metadata: {name: %s}}`, name), "delete", "-f", "-")
	}
}

// rewrite changes the file of an object, as somebody who is not the lab would,
// and returns what puts it back.
func (s *scene) rewrite(t *testing.T, object, old, next string) (back func()) {
	t.Helper()
	path := filepath.Join(s.dir, s.name, "objects", object+".yaml")
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	put := func(content string) {
		if err := os.WriteFile(path+".new", []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(string(before), old) {
		t.Fatalf("%s has no %q:\n%s", object, old, before)
	}
	put(strings.ReplaceAll(string(before), old, next))
	return func() { put(string(before)) }
}

// problems are the problems that the agent of a node sees.
func (s *scene) problems(node string) string {
	s.t.Helper()
	return s.must("exec", "node/"+node, "--", "fairlead", "get", "problems")
}

// mostOnTheWay keeps a probe within its sockets' buffers where the machine is
// busy with other things.
const mostOnTheWay = 100

// A probe is small packets, one after the other, and their echoes: unlike a
// stream, none that is lost is sent again.
type probe struct {
	stop       chan struct{}
	sent, back atomic.Int64
}

func (s *scene) probe(t *testing.T, from, to, address string) *probe {
	t.Helper()
	p := &probe{stop: make(chan struct{})}
	var far net.PacketConn
	var near net.Conn
	at := net.JoinHostPort(address, "7001")
	if err := netns.Do(s.netns[to], func() (err error) { far, err = net.ListenPacket("udp", at); return err }); err != nil {
		t.Fatal(err)
	}
	if err := netns.Do(s.netns[from], func() (err error) { near, err = net.Dial("udp", at); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	go func() {
		b := make([]byte, 64)
		for {
			n, peer, err := far.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = far.WriteTo(b[:n], peer) // what is lost is counted by the sender
		}
	}()
	go func() {
		for b := make([]byte, 64); ; p.back.Add(1) {
			if _, err := near.Read(b); err != nil {
				return
			}
		}
	}()
	go func() {
		for tick := time.NewTicker(2 * time.Millisecond); ; {
			select {
			case <-p.stop:
				tick.Stop()
				return
			case <-tick.C:
				if p.sent.Load()-p.back.Load() > mostOnTheWay {
					continue
				}
				if _, err := near.Write([]byte("are you there?")); err == nil {
					p.sent.Add(1)
				}
			}
		}
	}()
	return p
}

// end says how many packets went, and checks that each came back.
func (p *probe) end(t *testing.T) {
	t.Helper()
	close(p.stop)
	t.Logf("%d packets", p.sent.Load())
	become(t, "every packet has come back", func() bool { return p.back.Load() == p.sent.Load() })
}
