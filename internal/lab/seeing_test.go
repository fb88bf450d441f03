package lab_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/lab"
	"fairlead.dev/fairlead/internal/netns"
)

var starts = flag.Int("starts", 0, "starts of an agent with a random input lacking; 0: one with each")

const threePods = `
{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {nodeName: n1, containers: [{name: c}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: b}, spec: {nodeName: n1, containers: [{name: c}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: c}, spec: {nodeName: n2, containers: [{name: c}]}}
`

// checkingLab drops what has not a node's address between the nodes: an agent that finds
// that such packets pass ends a rule of routing, after two minutes, and that is no fault.
const checkingLab = `
apiVersion: lab.fairlead.dev/v1alpha1
kind: Lab
nodes: 2
underlays: [{name: default, cidrs: [192.168.100.0/24, "fd00:100::/64"], sourceCheck: true}]
`

// Whatever an agent cannot see when it starts, no running pod loses a packet, nothing
// in the kernel is deleted, and the agent says what it lacks.
func TestChaosOfSeeing(t *testing.T) {
	l := newLab(t, "seeing")
	l.mustWith(checkingLab, "up", "-f", "/dev/stdin")
	l.mustWith(threePods, "apply", "-f", "-")
	s := newSeeing(t, l)
	flows := []*counted{startCounted(t, s.pods["a"], s.pods["b"]), startCounted(t, s.pods["c"], s.pods["a"])}

	chosen := slices.Clone(lacks)
	if *starts > 0 {
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, seed))
		for chosen = nil; len(chosen) < *starts; {
			chosen = append(chosen, lacks[random.IntN(len(lacks))])
		}
	}
	table := tally{}
	for _, k := range chosen {
		s.try(k, flows, table.of(k))
	}
	l.must("agent", "start", "n1")
	l.must("wait")
	if d := l.must("exec", "node/n1", "--", "fairlead", "diff"); d != "" {
		t.Errorf("in the end the kernel lacks:\n%s", d)
	}
	table.print()
	for i, f := range flows {
		sent, received := f.end(t)
		fmt.Printf("flow %d: %d packets sent and as many answers awaited, %d received\n", i, sent, received)
		if sent != received {
			t.Errorf("flow %d: %d sent, %d received", i, sent, received)
		}
	}
}

// A row is what came of the starts with one lack.
type row struct{ starts, said, ready, deleted, lost int }

type tally map[string]*row

func (t tally) of(k lack) *row {
	if t[k.what] == nil {
		t[k.what] = &row{}
	}
	return t[k.what]
}

func (t tally) print() {
	fmt.Printf("%-36s %6s %5s %5s %7s %4s\n", "lacking", "starts", "said", "ready", "deleted", "lost")
	for _, k := range lacks {
		if r := t[k.what]; r != nil {
			fmt.Printf("%-36s %6d %5d %5d %7d %4d\n", k.what, r.starts, r.said, r.ready, r.deleted, r.lost)
		}
	}
}

// try starts an agent that lacks k and looks at what it said, deleted and lost.
func (s *seeing) try(k lack, flows []*counted, r *row) {
	s.t.Helper()
	before := s.kernel()
	log, ready := s.start(k)
	r.starts++
	if ready {
		r.ready++
	}
	if k.says == nil || slices.ContainsFunc(k.says, func(want string) bool { return strings.Contains(log, want) }) {
		r.said++
	} else {
		s.t.Errorf("%s: the agent does not say %q:\n%s", k.what, k.says, log)
	}
	if gone := missing(before, s.kernel()); len(gone) > 0 {
		r.deleted += len(gone)
		s.t.Errorf("%s: deleted:\n%s\n%s", k.what, strings.Join(gone, "\n"), log)
	}
	for _, f := range flows {
		if lost := f.check(s.t); lost > 0 {
			r.lost += lost
			s.t.Errorf("%s: %d packets lost:\n%s", k.what, lost, log)
		}
	}
}

// A seeing is a node whose agent the test starts itself.
type seeing struct {
	t      *testing.T
	l      testLab
	of     lab.Lab
	node   string // its namespace
	pods   map[string]lab.PodStatus
	args   []string
	state  string
	backup string
}

func newSeeing(t *testing.T, l testLab) *seeing {
	t.Helper()
	of, err := lab.New(l.name, l.dir)
	if err != nil {
		t.Fatal(err)
	}
	s := &seeing{t: t, l: l, of: of, pods: map[string]lab.PodStatus{}, state: filepath.Join(of.Dir(), "nodes", "n1", "state"), backup: filepath.Join(l.dir, "backup")}
	for _, p := range l.status().Pods {
		s.pods[p.Name] = p
	}
	for _, n := range l.status().Nodes {
		if n.Name != "n1" {
			continue
		}
		s.node = n.Netns
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", n.Agent.PID))
		if err != nil {
			t.Fatal(err)
		}
		s.args = strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
	}
	l.must("agent", "stop", "n1")
	s.sh("cp -a " + s.state + " " + s.backup)
	return s
}

func (s *seeing) sh(script string) string {
	s.t.Helper()
	out, err := exec.Command("bash", "-c", script).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// start starts an agent that lacks k, lets it take turns, and ends it. It returns
// what the agent said, and whether it was ready.
func (s *seeing) start(k lack) (said string, ready bool) {
	s.t.Helper()
	defer s.sh(fmt.Sprintf("rm -rf %s && cp -a %s %s", s.state, s.backup, s.state))
	script := "mount --make-rprivate /; " + k.script + "\nexec \"$@\" " + k.args
	cmd := exec.Command("nsenter", append([]string{"--net=" + s.node, "unshare", "-m", "bash", "-c", script, "_"}, s.args...)...)
	cmd.Env = append(os.Environ(), "STATE="+s.state, "OBJECTS="+filepath.Join(s.of.Dir(), "objects"), "REPORTS="+filepath.Join(s.of.Dir(), "reports"),
		"PODS="+s.pods["a"].Netns+" "+s.pods["b"].Netns)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is ended by a signal, or says in its log why it ends
		close(ended)
	}()
	var answers string
	for range 5 {
		answer := s.ask(ended, "/v1/status")
		ready = strings.Contains(answer, `"ready":true`)
		answers += answer
	}
	answers += s.ask(ended, "/v1/problems")
	_ = cmd.Process.Signal(unix.SIGTERM) // it may have ended
	select {
	case <-ended:
	case <-time.After(patience):
		_ = cmd.Process.Kill()
		s.t.Errorf("%s: the agent does not end", k.what)
	}
	<-ended
	return log.String() + answers, ready
}

// ask asks the agent once it has taken a turn; every question asks for another.
func (s *seeing) ask(ended <-chan struct{}, path string) string {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", s.of.AgentSocket("n1"))
	}}}
	defer client.CloseIdleConnections()
	for range 100 {
		select {
		case <-ended:
			return ""
		case <-time.After(50 * time.Millisecond):
		}
		r, err := client.Get("http://agent" + path)
		if err != nil {
			continue
		}
		body, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if !strings.Contains(string(body), `"reason":"starting"`) {
			return string(body)
		}
	}
	return ""
}

// kernel is what the node's kernel holds of ours, by line.
func (s *seeing) kernel() []string {
	s.t.Helper()
	return strings.Split(s.sh("exec nsenter --net="+s.node+` bash -c '
		exec 2>/dev/null # ip tells of namespaces that it has no name for
		ip -o link | grep -o " fl-[^@:]*"
		ip route show proto 157; ip -6 route show proto 157
		ip neigh show nud permanent | grep fl-; ip -6 neigh show nud permanent | grep fl-; bridge fdb | grep fl-
		nft -s list ruleset | sed "s/.*elements = //; s/[{}]//g" | tr "," "\n" | sed "s/^[[:space:]]*//"'`), "\n")
}

// missing are the lines of before that are not in after.
func missing(before, after []string) []string {
	left := map[string]int{}
	for _, line := range after {
		left[line]++
	}
	var out []string
	for _, line := range before {
		if left[line]--; left[line] < 0 {
			out = append(out, line)
		}
	}
	return out
}

// A counted flow sends a datagram, awaits the answer, and sends the next: no buffer
// drops any, and each that is lost is noticed.
type counted struct {
	sent, received atomic.Int64
	told           int64
	stop           chan struct{}
	ended          chan struct{}
}

func startCounted(t *testing.T, from, to lab.PodStatus) *counted {
	t.Helper()
	server, client := packets(t, to), packets(t, from)
	go func() {
		b := make([]byte, 64)
		for {
			n, from, err := server.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(b[:n], from) // whoever asked notices
		}
	}()
	f := &counted{stop: make(chan struct{}), ended: make(chan struct{})}
	go f.run(client, server.LocalAddr())
	return f
}

func packets(t *testing.T, p lab.PodStatus) net.PacketConn {
	t.Helper()
	var c net.PacketConn
	err := netns.Do(p.Netns, func() (err error) {
		c, err = net.ListenPacket("udp", net.JoinHostPort(p.PodIPs[0], "0"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (f *counted) run(c net.PacketConn, to net.Addr) {
	defer close(f.ended)
	b := make([]byte, 64)
	for number := 0; ; number++ {
		select {
		case <-f.stop:
			return
		case <-time.After(time.Millisecond):
		}
		f.sent.Add(1)
		question := fmt.Sprint(number)
		if _, err := c.WriteTo([]byte(question), to); err != nil {
			continue
		}
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		for {
			n, _, err := c.ReadFrom(b)
			if err != nil {
				break
			}
			if string(b[:n]) == question {
				f.received.Add(1)
				break
			}
		}
	}
}

// check waits until packets flow, and returns how many were lost since the last check.
func (f *counted) check(t *testing.T) int {
	t.Helper()
	for want := f.received.Load() + 3; f.received.Load() < want; time.Sleep(time.Millisecond) {
		if f.lost()-f.told > 3 {
			break
		}
	}
	lost := f.lost() - f.told
	f.told += lost
	return int(lost)
}

// lost leaves out the one that is on the way.
func (f *counted) lost() int64 {
	received := f.received.Load()
	return max(0, f.sent.Load()-received-1)
}

func (f *counted) end(t *testing.T) (sent, received int64) {
	t.Helper()
	close(f.stop)
	<-f.ended
	return f.sent.Load(), f.received.Load()
}
