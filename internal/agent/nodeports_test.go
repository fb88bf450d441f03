package agent

import (
	"bufio"
	"encoding/json"
	"fairlead.dev/fairlead/internal/allocations"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/feature/all"
	"fairlead.dev/fairlead/internal/feature/nodeportlocal"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/reserve"
	"fairlead.dev/fairlead/internal/sorted"
	"fairlead.dev/fairlead/internal/world"
)

// service selects pods with the label app: NAME, and leads to a target port.
func service(name, app, target, protocol string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Service
metadata: {name: %s, namespace: default, annotations: {nodeportlocal.antrea.io/enabled: "true"}}
spec: {type: ClusterIP, ipFamilies: [IPv4], selector: {app: %s}, ports: [{port: 80, targetPort: %s, protocol: %s}]}
`, name, app, target, protocol)
}

func podObject(name, address, annotation string) string {
	annotations := ""
	if annotation != "" {
		annotations = fmt.Sprintf(", annotations: {nodeportlocal.antrea.io: %q}", annotation)
	}
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %[1]s, namespace: default, uid: u-%[1]s, labels: {app: %[1]s}%[3]s}\n"+
		"spec: {nodeName: n1}\nstatus: {podIP: %[2]s}\n", name, address, annotations)
}

func portRange(ports string) string {
	return "apiVersion: fairlead.dev/v1alpha1\nkind: AgentConfig\nmetadata: {name: default}\nspec: {nodePortLocal: {portRange: " + ports + "}}\n"
}

func documents(list ...string) string { return strings.Join(list, "---\n") }

// toldOf is the annotation of a pod.
func (n *node) toldOf(t *testing.T, pod string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(n.dir, "n1.pods.jsonl"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(content)) {
		var p struct {
			Metadata struct {
				Name        string
				Annotations map[string]string
			}
		}
		must(t, json.Unmarshal([]byte(line), &p))
		if p.Metadata.Name == pod {
			return p.Metadata.Annotations[world.NodePortLocalPorts]
		}
	}
	return ""
}

// mapped is what the kernel's map leads to pods, of IPv4.
func (n *node) mapped(t *testing.T) string {
	t.Helper()
	table := n.host.Run("sh", "-c", "nft -n list map inet fairlead-nodeportlocal ports4 2>/dev/null || true")
	_, elements, _ := strings.Cut(strings.Join(strings.Fields(table), " "), "elements = { ")
	elements, _, _ = strings.Cut(elements, " }")
	list := strings.Split(elements, ", ")
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// sockets are the TCP and UDP ports from 61000 on that sockets of the node hold.
func (n *node) sockets(t *testing.T) string {
	t.Helper()
	var out []string
	n.host.Do(func() error {
		for port := 61000; port <= 61020; port++ {
			for _, network := range []string{"tcp4", "udp4"} {
				if !free(network, port) {
					out = append(out, fmt.Sprintf("%d/%s", port, network[:3]))
				}
			}
		}
		return nil
	})
	return strings.Join(out, " ")
}

// free reports whether a port can be had in the calling thread's namespace.
func free(network string, port int) bool {
	address := fmt.Sprintf(":%d", port)
	if strings.HasPrefix(network, "udp") {
		c, err := net.ListenPacket(network, address)
		if err == nil {
			c.Close()
		}
		return err == nil
	}
	l, err := net.Listen(network, address)
	if err == nil {
		l.Close()
	}
	return err == nil
}

// state is what a node has come to.
type state struct {
	pod, told       string // the ports in the annotation of a pod
	mapped, sockets string
}

func (n *node) expect(t *testing.T, want state) {
	t.Helper()
	if got := (state{want.pod, ports(n.toldOf(t, want.pod)), n.mapped(t), n.sockets(t)}); got != want {
		t.Errorf("the node has %q, want %q", got, want)
	}
}

// ports are the mappings of an annotation in short.
func ports(annotation string) string {
	var list []struct {
		PodPort, NodePort int
		NodeIP, Protocol  string
	}
	if annotation != "" && json.Unmarshal([]byte(annotation), &list) != nil {
		return "no JSON"
	}
	var words []string
	for _, e := range list {
		words = append(words, fmt.Sprintf("%d>%d/%s", e.NodePort, e.PodPort, e.Protocol))
	}
	return strings.Join(words, " ")
}

// Of two mappings of one pod one goes, and all of it goes: rule, socket and
// annotation; whoever uses the other notices nothing, nor does the log.
func TestOneOfTwoMappingsGoes(t *testing.T) {
	n := newNode(t, nodes)
	n.far.Address("eth0", "192.168.100.7/24")
	pod := netnstest.New(t)
	address := n.attach(t, "a", pod).Addresses[0].String()
	one, two := service("one", "a", "9000", "TCP"), service("two", "a", "9090", "TCP")
	n.write(t, "npl.yaml", documents(podObject("a", address, ""), one, two))
	n.mustTurn(t)
	n.expect(t, state{"a", "61000>9000/tcp 61001>9090/tcp", fmt.Sprintf("6 . 61000 : %[1]s . 9000, 6 . 61001 : %[1]s . 9090", address), "61000/tcp 61001/tcp"})
	echo(t, pod, 9090)
	if found := n.asked(t, ""); len(found) != 1 || found[0].Status != doctor.OK {
		t.Errorf("doctor: %+v", found)
	}
	client := dial(t, n.far, "192.168.100.1:61001")
	answered(t, client)
	n.log.b.Reset()
	n.write(t, "npl.yaml", documents(podObject("a", address, ""), two))
	n.mustTurn(t)
	n.expect(t, state{"a", "61001>9090/tcp", fmt.Sprintf("6 . 61001 : %s . 9090", address), "61001/tcp"})
	answered(t, client)
	if log := n.log.String(); strings.Contains(log, "level=ERROR") || strings.Contains(log, "level=WARN") {
		t.Errorf("the log:\n%s", log)
	}
	if d := n.diffText(t); d != "" {
		t.Errorf("the kernel lacks:\n%s", d)
	}
}

func echo(t *testing.T, pod *netnstest.Host, port int) {
	t.Helper()
	var l net.Listener
	pod.Do(func() (err error) {
		l, err = net.Listen("tcp", fmt.Sprintf(":%d", port))
		return err
	})
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				r := bufio.NewReader(c)
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					_, _ = c.Write([]byte(line))
				}
			}()
		}
	}()
}

func dial(t *testing.T, from *netnstest.Host, to string) net.Conn {
	t.Helper()
	var c net.Conn
	from.Do(func() (err error) {
		c, err = net.DialTimeout("tcp", to, 5*time.Second)
		return err
	})
	t.Cleanup(func() { c.Close() })
	return c
}

func answered(t *testing.T, c net.Conn) {
	t.Helper()
	must(t, c.SetDeadline(time.Now().Add(5*time.Second)))
	_, err := c.Write([]byte("hello\n"))
	must(t, err)
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || line != "hello\n" {
		t.Fatalf("answered %q, %v", line, err)
	}
}

// Two protocols of one port go one by one, too, and a socket that cannot be closed
// keeps neither the rule nor the annotation back. Antrea: NPLTestPodAddMultiProtocol,
// and TestDeleteRule where close fails.
func TestASocketThatCannotBeReleasedKeepsNothingBack(t *testing.T) {
	n := newNode(t, nodes)
	clock := time.Now()
	keeper, stuck := reserve.New(), false
	hold := keeper.Hold
	n.holdBy(t, keeper, func() time.Time { return clock }, func(want sorted.List[world.Port]) reserve.Held {
		if stuck { // as a keeper whose close(2) fails
			udp := world.Port{Protocol: unix.IPPROTO_UDP, Number: 61000}
			h := hold(want.With(nil, []world.Port{udp}, world.Port.Compare))
			h.Unreleased = []reserve.Failure{{Port: udp, Why: "input/output error"}}
			return h
		}
		return hold(want)
	})
	tcp, udp := service("t", "a", "9000", "TCP"), service("u", "a", "9000", "UDP")
	n.write(t, "npl.yaml", documents(podObject("a", "10.244.1.9", ""), tcp, udp))
	n.mustTurn(t)
	n.expect(t, state{"a", "61000>9000/tcp 61000>9000/udp", "17 . 61000 : 10.244.1.9 . 9000, 6 . 61000 : 10.244.1.9 . 9000", "61000/tcp 61000/udp"})
	stuck = true
	n.write(t, "npl.yaml", documents(podObject("a", "10.244.1.9", ""), tcp))
	n.mustTurn(t)
	n.expect(t, state{"a", "61000>9000/tcp", "6 . 61000 : 10.244.1.9 . 9000", "61000/tcp 61000/udp"})
	if metrics := n.metricsText(); !strings.Contains(metrics, `fairlead_nodeportlocal_ports{state="unreleased"} 1`) {
		t.Error("nobody counts the socket")
	}
	if found := n.asked(t, ""); len(found) != 1 || found[0].Status != doctor.Warn || !strings.Contains(found[0].Message, "61000/udp") {
		t.Errorf("doctor: %+v", found)
	}
	if s := n.snapshot.Load(); !s.Ready {
		t.Errorf("the node is not ready: %s", s.Reason)
	}
	stuck = false
	clock = clock.Add(2 * holdAgain)
	n.mustTurn(t)
	n.expect(t, state{"a", "61000>9000/tcp", "6 . 61000 : 10.244.1.9 . 9000", "61000/tcp"})
}

// sockets hold ports as they are told to.
type sockets struct {
	*reserve.Keeper
	hold func(sorted.List[world.Port]) reserve.Held
}

func (s sockets) Hold(want sorted.List[world.Port]) reserve.Held { return s.hold(want) }

// Times of package nodeportlocal, at least.
const holdAgain, takenFor = time.Second, time.Minute

// holdBy has the agent hold the ports of the node in another way, by another clock.
func (n *node) holdBy(t *testing.T, k *reserve.Keeper, now func() time.Time, hold func(sorted.List[world.Port]) reserve.Held) {
	t.Helper()
	n.features = slices.Clone(all.Features)
	for i, f := range n.features {
		if f.Name == nodeportlocal.Feature.Name {
			n.features[i].Start = func(h feature.Host) feature.Helper { return nodeportlocal.Hold(h, sockets{k, hold}, now) }
		}
	}
	n.restart(t)
}

// A port that another program has is left to it, and never led away.
func TestAPortOfAnotherProgramIsLeftToIt(t *testing.T) {
	n := newNode(t, nodes)
	clock := time.Now()
	keeper := reserve.New()
	n.holdBy(t, keeper, func() time.Time { return clock }, keeper.Hold)
	var other net.Listener
	n.host.Do(func() (err error) {
		other, err = net.Listen("tcp4", ":61000")
		return err
	})
	n.write(t, "npl.yaml", documents(podObject("a", "10.244.1.9", ""), podObject("b", "10.244.1.8", ""), service("a", "a", "9000", "TCP"), service("b", "b", "9000", "TCP"), portRange("61000-61001")))
	n.mustTurn(t)
	n.expect(t, state{"a", "61001>9000/tcp", "6 . 61001 : 10.244.1.9 . 9000", "61000/tcp 61001/tcp"})
	var reasons []string
	for _, e := range n.events.All().Items {
		reasons = append(reasons, e.InvolvedObject.Kind+" "+e.Reason)
	}
	slices.Sort(reasons)
	if want := []string{"Node NodePortTaken", "Pod NodePortLocalExhausted", "Service NodePortLocalExhausted"}; !slices.Equal(reasons, want) {
		t.Errorf("events %q, want %q", reasons, want)
	}
	if metrics := n.metricsText(); !strings.Contains(metrics, `fairlead_condition{reason="PortsExhausted",type="NodePortLocal"} 1`) || !strings.Contains(metrics, `ports{state="waiting"} 1`) {
		t.Errorf("nobody counts what waits:\n%s", metrics)
	}
	must(t, other.Close())
	clock = clock.Add(2 * takenFor)
	n.mustTurn(t)
	n.expect(t, state{"b", "61000>9000/tcp", "6 . 61000 : 10.244.1.8 . 9000, 6 . 61001 : 10.244.1.9 . 9000", "61000/tcp 61001/tcp"})
}

// Where others have many ports, the one that is left is found within a few turns,
// and none of theirs is led away meanwhile.
func TestManyPortsOfOthers(t *testing.T) {
	n := newNode(t, nodes)
	n.holdBy(t, reserve.New(), time.Now, func(want sorted.List[world.Port]) (h reserve.Held) {
		for p := range want.All() {
			if p.Number < 61040 {
				h.Taken = append(h.Taken, p)
			}
		}
		return h
	})
	n.write(t, "npl.yaml", documents(podObject("a", "10.244.1.9", ""), service("a", "a", "9000", "TCP")))
	for range 3 {
		if mapped := n.mapped(t); mapped != "" {
			t.Fatalf("mapped are %s", mapped)
		}
		n.mustTurn(t)
	}
	if told, mapped := ports(n.toldOf(t, "a")), n.mapped(t); told != "61040>9000/tcp" || mapped != "6 . 61040 : 10.244.1.9 . 9000" {
		t.Errorf("told is %q, mapped are %q", told, mapped)
	}
}

// A restart changes nothing, whether the record or only the annotation is there,
// and a port that was given back is the last to be used again. Antrea:
// TestRestoreRules.
func TestPortsOutliveTheAgent(t *testing.T) {
	n := newNode(t, nodes)
	a, b := service("a", "a", "9000", "TCP"), service("b", "b", "9000", "TCP")
	n.write(t, "npl.yaml", documents(podObject("a", "10.244.1.9", ""), podObject("b", "10.244.1.8", ""), a, b))
	n.mustTurn(t)
	n.write(t, "npl.yaml", documents(podObject("b", "10.244.1.8", ""), a, b))
	n.mustTurn(t)
	n.restart(t)
	n.log.b.Reset()
	n.mustTurn(t)
	n.expect(t, state{"b", "61001>9000/tcp", "6 . 61001 : 10.244.1.8 . 9000", "61001/tcp"})
	if log := n.log.String(); strings.Contains(log, "msg=applied") {
		t.Errorf("a restarted agent changed the kernel:\n%s", log)
	}
	n.write(t, "npl.yaml", documents(podObject("b", "10.244.1.8", ""), podObject("c", "10.244.1.7", ""), b, service("c", "c", "1", "TCP")))
	n.mustTurn(t)
	n.expect(t, state{"c", "61002>1/tcp", "6 . 61001 : 10.244.1.8 . 9000, 6 . 61002 : 10.244.1.7 . 1", "61001/tcp 61002/tcp"})
	must(t, os.Remove(allocations.File(n.config.StateDir)))
	n.write(t, "npl.yaml", documents(podObject("b", "10.244.1.8", n.toldOf(t, "b")), podObject("c", "10.244.1.7", "not JSON"), b, service("c", "c", "1", "TCP")))
	n.restart(t)
	n.mustTurn(t)
	n.expect(t, state{"b", "61001>9000/tcp", "6 . 61000 : 10.244.1.7 . 1, 6 . 61001 : 10.244.1.8 . 9000", "61000/tcp 61001/tcp"})
	n.expect(t, state{"c", "61000>1/tcp", "6 . 61000 : 10.244.1.7 . 1, 6 . 61001 : 10.244.1.8 . 9000", "61000/tcp 61001/tcp"})
}
