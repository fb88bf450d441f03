package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/agent"
	"fairlead.dev/fairlead/internal/lab/echo"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
)

// programs is a directory with the command under test, called fairlead, as an
// installed plugin would be.
var programs string

func TestMain(m *testing.M) {
	os.Exit(withPrograms(m))
}

func withPrograms(m *testing.M) int {
	var err error
	if programs, err = os.MkdirTemp("", "fl-bin"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(programs) }()
	build := exec.Command("go", "build", "-o", filepath.Join(programs, "fairlead"), "fairlead.dev/fairlead/cmd/fairlead")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// A site is a node, n1, that is a network namespace, with a directory for its
// files, and whatever is beyond its uplink.
type site struct {
	*netnstest.Host
	t      *testing.T
	far    *netnstest.Host // the rest of the world
	dir    string
	cache  string    // of its container runtime
	added  int       // pods
	daemon *exec.Cmd // the agent, while it runs
	log    bytes.Buffer
}

// Where a site's node is, and what is beyond: another node with a pod, a server
// outside, and one outside that is to see pods' own addresses.
var (
	nodeAddresses = []string{"192.0.2.1", "2001:db8::1"}
	farAddresses  = []string{"192.0.2.2", "2001:db8::2"}
	farPods       = []string{"10.244.2.9", "fd00:10:244:2::9"}
	outside       = []string{"198.51.100.10", "2001:db8:100::10"}
	keeping       = []string{"203.0.113.10", "2001:db8:113::10"}
	podCIDRs      = []string{"10.244.1.0/24", "fd00:10:244:1::/64"}
	farPodCIDRs   = []string{"10.244.2.0/24", "fd00:10:244:2::/64"}
)

func newSite(t *testing.T) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "fl") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &site{Host: netnstest.New(t), t: t, far: netnstest.New(t), dir: dir, cache: t.TempDir()}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("agent:\n%s", &s.log)
		}
	})
	netnstest.Wire(s.Host, "eth0", s.far, "eth0")
	s.Address("eth0", nodeAddresses[0]+"/24", nodeAddresses[1]+"/64")
	s.far.Address("eth0", farAddresses[0]+"/24", farAddresses[1]+"/64")
	for i, all := range []string{"0.0.0.0/0", "::/0"} {
		s.Route(all, farAddresses[i])
		s.far.Route(podCIDRs[i], nodeAddresses[i])
		bits := []string{"/32", "/128"}[i]
		s.far.Address("lo", farPods[i]+bits, outside[i]+bits, keeping[i]+bits)
	}
	s.write("net.d/99-loopback.conf", `{"cniVersion": "1.0.0", "type": "loopback"}`)
	s.write("bin/loopback", "somebody else's")
	s.write("objects/nodes.yaml", node("n1", nodeAddresses, podCIDRs)+"---\n"+node("n2", farAddresses, farPodCIDRs))
	serve(t, s.far, echo.Default)
	return s
}

func node(name string, addresses, cidrs []string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Node
metadata: {name: %s}
spec: {podCIDRs: ["%s"]}
status: {addresses: [{type: InternalIP, address: "%s"}, {type: InternalIP, address: "%s"}]}
`, name, strings.Join(cidrs, `", "`), addresses[0], addresses[1])
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(name, content string) {
	s.t.Helper()
	err := os.MkdirAll(filepath.Dir(s.path(name)), 0o755)
	if err = errors.Join(err, os.WriteFile(s.path(name), []byte(content), 0o644)); err != nil {
		s.t.Fatal(err)
	}
}

// configure writes the AgentConfig of all nodes.
func (s *site) configure(spec string) {
	s.t.Helper()
	s.write("objects/config.yaml", "apiVersion: fairlead.dev/v1alpha1\nkind: AgentConfig\nmetadata: {name: default}\nspec: "+spec+"\n")
}

// start starts the agent and waits until the kernel is as desired.
func (s *site) start() {
	s.t.Helper()
	s.launch()
	s.until("the agent is ready", func() bool { a, err := s.status(); return err == nil && a.Ready })
}

// launch starts the agent.
func (s *site) launch() {
	s.t.Helper()
	s.daemon = exec.Command(filepath.Join(programs, "fairlead"), "agent", "--node", "n1", "--objects", s.path("objects"),
		"--metrics-address", "",
		"--state-dir", s.path("state"), "--socket", s.path("run/agent.sock"), "--cni-conf-dir", s.path("net.d"), "--cni-bin-dir", s.path("bin"))
	s.daemon.Stdout, s.daemon.Stderr = &s.log, &s.log
	s.Start(s.daemon)
}

// stop ends the agent by a signal.
func (s *site) stop(with syscall.Signal) {
	s.t.Helper()
	if err := s.daemon.Process.Signal(with); err != nil {
		s.t.Fatal(err)
	}
	_ = s.daemon.Wait() // killed
}

func (s *site) status() (agent.Status, error) {
	client := http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return net.Dial("unix", s.path("run/agent.sock"))
	}}}
	defer client.CloseIdleConnections()
	var a agent.Status
	response, err := client.Get("http://agent/v1/status")
	if err != nil {
		return a, err
	}
	defer response.Body.Close()
	return a, json.NewDecoder(response.Body).Decode(&a)
}

// until waits for what is to come, however slow the machine.
func (s *site) until(what string, come func() bool) {
	s.t.Helper()
	for end := time.Now().Add(time.Minute); !come(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("not come: %s", what)
		}
	}
}

// uninstall runs the command with the site's directories and returns what it
// said, and whether it succeeded.
func (s *site) uninstall(args ...string) (stdout, stderr string, ok bool) {
	s.t.Helper()
	cmd := exec.Command(filepath.Join(programs, "fairlead"), append([]string{"uninstall", "--state-dir", s.path("state"),
		"--socket", s.path("run/agent.sock"), "--cni-conf-dir", s.path("net.d"), "--cni-bin-dir", s.path("bin")}, args...)...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := netns.Do(s.Path, cmd.Run)
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return out.String(), said.String(), err == nil
}

// mustUninstall returns what uninstalling did.
func (s *site) mustUninstall(args ...string) string {
	s.t.Helper()
	out, said, ok := s.uninstall(args...)
	if !ok {
		s.t.Fatalf("uninstall: %s%s", out, said)
	}
	return out
}

// serve runs a server in h that tells peers their address and port.
func serve(t *testing.T, h *netnstest.Host, server echo.Server) {
	t.Helper()
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- netns.Do(h.Path, func() error { return server.Run(t.Context(), func() { close(ready) }) })
	}()
	select {
	case <-ready:
	case err := <-ended:
		t.Fatal(err)
	}
}
