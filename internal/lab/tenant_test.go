package lab_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"fairlead.dev/fairlead/internal/netns"
)

// What a tenant can do: somebody who may run pods, with a root of their own where the
// cluster lets them, and who may write the objects of one namespace. Nothing of it
// may reach what is not theirs, or cost a node more than its bounds.

// An outcome is what becomes of an attack.
type outcome string

const (
	denied   outcome = "denied"   // nothing of it happens
	bounded  outcome = "bounded"  // it happens within a bound
	harmless outcome = "harmless" // it happens, to the tenant alone
)

type attack struct {
	name string
	want outcome
	// try does it, says what was seen, and fails the test where that is not as wanted.
	try func(t *testing.T, c *crime) string
}

// A crime is a scene with the pod evil/evil beside pod a on n1, both of which
// others know nothing of, and pod b on n2.
type crime struct {
	*scene
	ip map[string]string // of a pod or node, by its name; with a 6 behind it that of IPv6
}

const evilPod = `
apiVersion: v1
kind: Pod
metadata: {name: evil, namespace: evil, labels: {app: evil}}
spec: {nodeName: n1, containers: [{name: c, ports: [{containerPort: 9090, hostPort: 5432}]}]}
`

func newCrime(t *testing.T) *crime {
	t.Helper()
	c := &crime{newScene(t, "tenant", "{apiVersion: lab.fairlead.dev/v1alpha1, kind: Lab, nodes: 2, agent: {nodeSNATRandomizePorts: true}}"), map[string]string{}}
	c.mustWith(evilPod, "apply", "-f", "-")
	status := c.status()
	know := func(name string, addresses []string) {
		for _, a := range addresses {
			if strings.Contains(a, ":") {
				name += "6"
			}
			c.ip[name] = a
		}
	}
	for _, n := range status.Nodes {
		know(n.Name, n.Addresses)
	}
	for _, p := range status.Pods {
		c.netns[p.Name] = p.Netns
		know(p.Name, p.PodIPs)
	}
	for _, h := range status.Hosts {
		c.netns[h.Name] = h.Netns
		know(h.Name, h.Addresses)
	}
	return c
}

// again gives the tenant the pod as it was.
func (c *crime) again(t *testing.T) {
	t.Helper()
	c.mustWith("{apiVersion: v1, kind: Pod, metadata: {name: evil, namespace: evil}}", "delete", "-f", "-")
	c.mustWith(evilPod, "apply", "-f", "-")
	for _, a := range c.pod("evil").PodIPs {
		name := "evil"
		if strings.Contains(a, ":") {
			name += "6"
		}
		c.ip[name] = a
	}
}

// A hearing is what one socket received while something was tried.
type hearing []string

// An ear is where one listens while something is tried.
type ear struct {
	where, address string
	honest         string // who sends from where nothing is wrong
}

// ofPod is an ear of pod a or b, by IPv4 or, with a 6 behind the name, by IPv6.
func (c *crime) ofPod(name string) ear {
	pod := strings.TrimSuffix(name, "6")
	return ear{pod, c.ip[name], map[string]string{"a": "b", "b": "a"}[pod]}
}

// hears listens at an ear while do sends, until an honest packet has come.
func (c *crime) hears(t *testing.T, at ear, do func(port uint16)) hearing {
	t.Helper()
	const last = "honest"
	var l net.PacketConn
	if err := netns.Do(c.netns[at.where], func() (err error) {
		l, err = net.ListenPacket("udp", net.JoinHostPort(at.address, "0"))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	do(uint16(l.LocalAddr().(*net.UDPAddr).Port))
	c.says(t, at.honest, l.LocalAddr().String(), last)
	var heard hearing
	b := make([]byte, 2048)
	_ = l.SetReadDeadline(time.Now().Add(patience))
	for {
		n, from, err := l.ReadFrom(b)
		if err != nil {
			t.Fatalf("not even the honest packet came: %v", err)
		}
		if string(b[:n]) == last {
			return heard
		}
		heard = append(heard, fmt.Sprintf("%q from %s", b[:n], from))
	}
}

// says sends one datagram as any process can.
func (c *crime) says(t *testing.T, from, to, text string) {
	t.Helper()
	err := netns.Do(c.netns[from], func() error {
		s, err := net.Dial("udp", to)
		if err != nil {
			return err
		}
		defer s.Close()
		_, err = s.Write([]byte(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// silence fails the test where something was heard.
func (h hearing) silence(t *testing.T) string {
	t.Helper()
	if len(h) > 0 {
		t.Errorf("arrived: %s", strings.Join(h, ", "))
	}
	return "nothing arrives"
}

// unchanged fails the test where do changes what a script says of a node.
func (c *crime) unchanged(t *testing.T, where, script string, do func()) string {
	t.Helper()
	before := c.on(t, where, script)
	do()
	if after := c.on(t, where, script); after != before {
		t.Errorf("%s said\n%s, and now\n%s", script, before, after)
	}
	return "the node is as before"
}

// refused fails the test unless objects are refused, with these words.
func (c *crime) refused(t *testing.T, manifest string, words ...string) string {
	t.Helper()
	r := c.runWith(manifest, "apply", "-f", "-", "--timeout", "2s")
	said := r.stdout + r.stderr + c.problems("n1")
	for _, w := range words {
		if r.code == 0 || !strings.Contains(said, w) {
			t.Errorf("exit code %d, and nothing says %q:\n%s", r.code, w, said)
		}
	}
	return "refused: " + strings.Join(words, ", ")
}

// Figures are what an attack costs the agent of n1.
type figures struct {
	peak   int // MiB, of resident memory
	status int // bytes of the node's FairleadNode
	lines  int // in its log
	turns  int
}

// Bounds of every attack.
var most = figures{peak: 128, status: 64 << 10, lines: 200, turns: 1000}

func (c *crime) figures(t *testing.T) (f figures) {
	t.Helper()
	pid := strconv.Itoa(c.node("n1").Agent.PID)
	for line := range strings.Lines(readFile(t, "/proc/"+pid+"/status")) {
		if kib, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(kib), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			f.peak = n >> 10
		}
	}
	if err := os.WriteFile("/proc/"+pid+"/clear_refs", []byte("5"), 0); err != nil { // proc(5): begin a new peak
		t.Fatal(err)
	}
	f.lines = strings.Count(readFile(t, filepath.Join(c.dir, c.name, "nodes", "n1", "agent.log")), "\n")
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(c.must("get", "fairleadnode", "n1", "-o", "json"))); err != nil {
		t.Fatal(err)
	}
	f.status = compact.Len()
	f.turns = int(c.metric(t, "fairlead_sync_seconds_count"))
	return f
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// metric is the value of one that has no labels.
func (c *crime) metric(t *testing.T, name string) float64 {
	t.Helper()
	return metric(t, c.netns["n1"], name)
}

// metric is the value of one, with its labels, of the agent in the namespace at path.
func metric(t *testing.T, path, name string) float64 {
	t.Helper()
	var answer []byte
	if err := netns.Do(path, func() error {
		s, err := net.DialTimeout("tcp", "127.0.0.1:9468", patience)
		if err != nil {
			return err
		}
		defer s.Close()
		_ = s.SetDeadline(time.Now().Add(patience))
		if _, err := io.WriteString(s, "GET /metrics HTTP/1.0\r\n\r\n"); err != nil {
			return err
		}
		answer, err = io.ReadAll(s)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(answer)); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			return v
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

func TestWhatATenantTriesIsDeniedBoundedOrHarmless(t *testing.T) {
	c := newCrime(t)
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ATTACK\tOUTCOME\tPEAK MiB\tSTATUS BYTES\tLOG LINES\tTURNS\tSEEN")
	before := c.figures(t)
	for _, a := range attacks {
		var seen string
		t.Run(a.name, func(t *testing.T) {
			seen = a.try(t, c)
			c.flow(t)
			if n := c.node("n1"); !n.Agent.Ready {
				t.Errorf("the agent of n1 is not ready: %s", n.Agent.Reason)
			}
			now := c.figures(t)
			cost := figures{now.peak, now.status, now.lines - before.lines, now.turns - before.turns}
			before = now
			if cost.peak > most.peak || cost.status > most.status || cost.lines > most.lines || cost.turns > most.turns {
				t.Errorf("it costs %+v, and at most %+v is allowed", cost, most)
			}
			what := a.want
			if t.Failed() {
				what = "NOT " + what
			}
			fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%s\n", a.name, what, cost.peak, cost.status, cost.lines, cost.turns, seen)
		})
	}
	c.end(t)
	if err := w.Flush(); err != nil {
		t.Error(err)
	}
	t.Logf("what a tenant tries:\n%s", table.String())
}
