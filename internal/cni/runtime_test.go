package cni_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
)

// binary is the program under test, built once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "fl-cni") // stays for all tests; TestMain removes it
	if err != nil {
		return "", err
	}
	built := filepath.Join(dir, "fairlead")
	if out, err := exec.Command("go", "build", "-o", built, "fairlead.dev/fairlead/cmd/fairlead").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return built, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if built, err := binary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(built))
	}
	os.Exit(code)
}

const objects = `{apiVersion: v1, kind: Node, metadata: {name: n1}, spec: {podCIDRs: [10.244.1.0/24, "fd00:10:244:1::/64"]}, status: {addresses: [{type: InternalIP, address: 192.168.100.1}]}}
---
{apiVersion: fairlead.dev/v1alpha1, kind: AgentConfig, metadata: {name: default}, spec: {overlay: {mode: %s}}}
`

// A machine is a host with an agent, and a container runtime's view of it.
type machine struct {
	t          *testing.T
	host       *netnstest.Host
	dir        string
	agent      *exec.Cmd
	confs, bin string
	runtime    *libcni.CNIConfig
}

// newMachine starts an agent that shows the runtime its network.
func newMachine(t *testing.T, mode string) *machine {
	t.Helper()
	dir, err := os.MkdirTemp("", "fl") //nolint:usetesting // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	m := &machine{t: t, host: netnstest.New(t), dir: dir, confs: filepath.Join(dir, "net.d"), bin: filepath.Join(dir, "bin")}
	netnstest.Wire(m.host, "eth0", netnstest.New(t), "eth0")
	m.host.Address("eth0", "192.168.100.1/24")
	m.write("objects/all.yaml", fmt.Sprintf(objects, mode), 0o644)
	m.runtime = libcni.NewCNIConfigWithCacheDir([]string{m.bin}, filepath.Join(dir, "cache"), nil)
	m.start()
	t.Cleanup(m.stop)
	return m
}

func (m *machine) write(name, content string, mode os.FileMode) {
	m.t.Helper()
	path := filepath.Join(m.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), mode)); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) socket() string { return filepath.Join(m.dir, "agent.sock") }

func (m *machine) start() {
	m.t.Helper()
	built, err := binary()
	if err != nil {
		m.t.Fatal(err)
	}
	m.agent = exec.Command(built, "agent", "--node", "n1", "--objects", filepath.Join(m.dir, "objects"), "--metrics-address", "",
		"--state-dir", filepath.Join(m.dir, "state"), "--socket", m.socket(), "--cni-conf-dir", m.confs, "--cni-bin-dir", m.bin)
	m.agent.Stdout, m.agent.Stderr = m.t.Output(), m.t.Output()
	if err := netns.Start(m.host.Path, m.agent); err != nil {
		m.t.Fatal(err)
	}
}

// stop ends the agent; twice is fine.
func (m *machine) stop() {
	if m.agent.ProcessState == nil {
		_ = m.agent.Process.Kill()
		_ = m.agent.Wait()
	}
}

// within calls f until it has no error, for as long as can be.
func (m *machine) within(f func() error) {
	m.t.Helper()
	err := f()
	for end := time.Now().Add(30 * time.Second); err != nil; err = f() {
		if time.Now().After(end) {
			m.t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// network is the configuration that the agent wrote, in the given version.
func (m *machine) network(version string) *libcni.NetworkConfigList {
	m.t.Helper()
	var list *libcni.NetworkConfigList
	m.within(func() (err error) { list, err = libcni.LoadNetworkConf(m.confs, "fairlead"); return err })
	list.CNIVersion = version
	return list
}

func sandbox(id string, h *netnstest.Host) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: id, NetNS: h.Path, IfName: "eth0",
		Args: [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "default"}, {"K8S_POD_NAME", id}},
		CapabilityArgs: map[string]any{
			"portMappings": []map[string]any{{"hostPort": 8000 + len(id), "containerPort": 80, "protocol": "tcp"}},
			"bandwidth":    map[string]any{"ingressRate": 1_000_000, "ingressBurst": 4_294_967_295},
		}}
}

func code(err error) uint {
	if e, ok := errors.AsType[*types.Error](err); ok {
		return e.Code
	}
	return 0
}

func TestARuntimeAttachesPods(t *testing.T) {
	m := newMachine(t, "vxlan")
	for _, version := range []string{"0.4.0", "1.0.0", "1.1.0"} {
		t.Run(version, func(t *testing.T) {
			ctx, list, pod := t.Context(), m.network(version), netnstest.New(t)
			if _, err := m.runtime.ValidateNetworkList(ctx, list); err != nil {
				t.Fatal(err)
			}
			rt := sandbox("pod-of-"+version, pod)
			answer, err := m.runtime.AddNetworkList(ctx, list, rt)
			if err != nil {
				t.Fatal(err)
			}
			result, err := current.NewResultFromResult(answer)
			if err != nil || len(result.IPs) != 2 || answer.Version() != version {
				t.Fatalf("%v, %v", answer, err)
			}
			if addresses := pod.Run("ip", "-o", "address"); !strings.Contains(addresses, result.IPs[0].Address.IP.String()) {
				t.Errorf("ADD told of %s, and the pod has\n%s", result.IPs[0].Address.IP, addresses)
			}
			if err := m.runtime.CheckNetworkList(ctx, list, rt); err != nil {
				t.Errorf("check: %v", err)
			}
			pod.Run("ip", "address", "flush", "dev", "eth0")
			if err := m.runtime.CheckNetworkList(ctx, list, rt); err == nil || !strings.Contains(err.Error(), "address "+result.IPs[0].Address.IP.String()) {
				t.Errorf("check of a pod without addresses: %v", err)
			}
			for range 2 {
				if err := m.runtime.DelNetworkList(ctx, list, rt); err != nil {
					t.Errorf("del: %v", err)
				}
			}
			if err := m.runtime.GetStatusNetworkList(ctx, list); err != nil {
				t.Errorf("status: %v", err)
			}
		})
	}
	if links := m.host.Run("ip", "-o", "link"); strings.Contains(links, "veth") && strings.Count(links, "fl-") != 1 {
		t.Errorf("wires stay:\n%s", links)
	}
}

// pods are the names of the pods that the agent knows.
func (m *machine) pods() string {
	m.t.Helper()
	var list struct{ Items []struct{ Name string } }
	if err := json.Unmarshal([]byte(m.get("pods")), &list); err != nil {
		m.t.Fatal(err)
	}
	var names []string
	for _, i := range list.Items {
		names = append(names, i.Name)
	}
	return strings.Join(names, " ")
}

// get asks the agent.
func (m *machine) get(what string) string {
	m.t.Helper()
	built, err := binary()
	if err != nil {
		m.t.Fatal(err)
	}
	cmd := exec.Command(built, "get", what, "-o", "json")
	cmd.Env = append(os.Environ(), "FAIRLEAD_SOCKET="+m.socket())
	out, err := cmd.Output()
	if err != nil {
		m.t.Fatal(err)
	}
	return string(out)
}

func (m *machine) problems() string { return m.get("problems") }

func TestARuntimeCollectsPods(t *testing.T) {
	m := newMachine(t, "vxlan")
	list := m.network("1.1.0")
	for _, id := range []string{"kept", "leaked-one"} {
		if _, err := m.runtime.AddNetworkList(t.Context(), list, sandbox(id, netnstest.New(t))); err != nil {
			t.Fatal(err)
		}
	}
	// A runtime that lost its own notes: it sends no DEL of its own.
	forgetful := libcni.NewCNIConfigWithCacheDir([]string{m.bin}, filepath.Join(m.dir, "no-cache"), nil)
	kept := types.GCAttachment{ContainerID: "kept", IfName: "eth0"}
	if err := forgetful.GCNetworkList(t.Context(), list, &libcni.GCArgs{ValidAttachments: []types.GCAttachment{kept}}); err != nil {
		t.Fatal(err)
	}
	if pods := m.pods(); pods != "kept" {
		t.Errorf("left are %q", pods)
	}
	if err := forgetful.GCNetworkList(t.Context(), list, nil); err == nil || m.pods() != "kept" {
		t.Errorf("GC without a list: %v, left are %q", err, m.pods())
	}
}

func TestStatusAndDelWithTheAgentAway(t *testing.T) {
	m := newMachine(t, "vxlan")
	list, rt := m.network("1.1.0"), sandbox("pod", netnstest.New(t))
	if _, err := m.runtime.AddNetworkList(t.Context(), list, rt); err != nil {
		t.Fatal(err)
	}
	m.stop()
	if err := m.runtime.GetStatusNetworkList(t.Context(), list); code(err) != types.ErrPluginNotAvailable {
		t.Errorf("status: %v", err)
	}
	if err := m.runtime.DelNetworkList(t.Context(), list, rt); err != nil {
		t.Errorf("del: %v", err)
	}
	if _, err := os.Stat(filepath.Join(m.confs, cni.ConfigFile)); err != nil {
		t.Errorf("the configuration went with the agent: %v", err)
	}
	m.start()
	m.within(func() error { return m.runtime.GetStatusNetworkList(t.Context(), list) })
	if pods := m.pods(); pods != "" {
		t.Errorf("the tombstone was not honoured: %q", pods)
	}
}

func TestAPodWaitsForTheAgentThatComesNext(t *testing.T) {
	m := newMachine(t, "vxlan")
	list, rt := m.network("1.1.0"), sandbox("pod", netnstest.New(t))
	m.stop()
	added := make(chan error, 1)
	go func() {
		_, err := m.runtime.AddNetworkList(t.Context(), list, rt)
		added <- err
	}()
	select {
	case err := <-added:
		t.Fatalf("with no agent there: %v", err)
	case <-time.After(300 * time.Millisecond): // the plugin has begun to wait
	}
	m.start()
	if err := <-added; err != nil {
		t.Error(err)
	}
}

// foreign is a plugin that makes no network and says that the pod has one.
const foreign = `#!/bin/sh
version=$(grep -o '"cniVersion":"[^"]*"' | head -n 1)
case $CNI_COMMAND in
ADD) echo '{'$version',"interfaces":[{"name":"eth0","sandbox":"'$CNI_NETNS'"}],"ips":[{"address":"10.9.0.5/24","gateway":"10.9.0.1","interface":0}],"dns":{}}';;
VERSION) echo '{"cniVersion":"1.1.0","supportedVersions":["0.4.0","1.0.0","1.1.0"]}';;
esac
`

func TestBehindAnotherPlugin(t *testing.T) {
	m := newMachine(t, "none")
	m.write("bin/foreign", foreign, 0o755)
	conf := func(plugins string) *libcni.NetworkConfigList {
		list, err := libcni.NetworkConfFromBytes([]byte(`{"cniVersion": "1.1.0", "name": "theirs", "plugins": [` + plugins + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	ours := fmt.Sprintf(`{"type": "fairlead", "socket": %q, "stateDir": %q}`, m.socket(), filepath.Join(m.dir, "state"))
	alone, chained := conf(ours), conf(`{"type": "foreign"},`+ours)
	m.within(func() error { return m.runtime.GetStatusNetworkList(t.Context(), alone) })
	if _, err := os.Stat(filepath.Join(m.confs, cni.ConfigFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is a configuration of ours: %v", err)
	}
	pod := netnstest.New(t)
	rt := sandbox("pod", pod)
	if _, err := m.runtime.AddNetworkList(t.Context(), alone, rt); code(err) != types.ErrInvalidNetworkConfig || !strings.Contains(err.Error(), "CNI chaining needs fairlead behind the plugin") {
		t.Errorf("alone: %v", err)
	}
	answer, err := m.runtime.AddNetworkList(t.Context(), chained, rt)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := answer.PrintTo(&out); err != nil || !strings.Contains(out.String(), "10.9.0.5/24") || strings.Contains(out.String(), "fl-") {
		t.Errorf("the answer is not the other plugin's: %v\n%s", err, &out)
	}
	if links := pod.Run("ip", "-o", "link"); strings.Contains(links, "eth0") {
		t.Errorf("the pod has a wire of ours:\n%s", links)
	}
	if pods := m.pods(); pods != "pod" {
		t.Errorf("the agent knows %q", pods)
	}
	if err := m.runtime.CheckNetworkList(t.Context(), chained, rt); err != nil {
		t.Errorf("check: %v", err)
	}
	if err := m.runtime.GCNetworkList(t.Context(), chained, &libcni.GCArgs{ValidAttachments: []types.GCAttachment{{ContainerID: "pod", IfName: "eth0"}}}); err != nil || m.pods() != "pod" {
		t.Errorf("gc: %v, left are %q", err, m.pods())
	}
	if err := m.runtime.DelNetworkList(t.Context(), chained, rt); err != nil || m.pods() != "" {
		t.Errorf("del: %v, left are %q", err, m.pods())
	}

	m.write("objects/all.yaml", fmt.Sprintf(objects, "vxlan"), 0o644)
	m.network("1.1.0") // is there again
	if _, err := m.runtime.AddNetworkList(t.Context(), chained, rt); code(err) != types.ErrInvalidNetworkConfig || !strings.Contains(err.Error(), "another plugin has made this pod's network") {
		t.Errorf("behind another, in mode vxlan: %v", err)
	}
}
