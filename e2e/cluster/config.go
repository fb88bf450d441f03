package cluster

import (
	_ "embed" // coredns.yaml
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"fairlead.dev/fairlead/e2e/node"
)

// Files of a node.
const (
	etc            = "/etc/kubernetes/"
	kubeletConfig  = etc + "kubelet.yaml"
	proxyConfig    = etc + "kube-proxy.yaml"
	nodeKubeconfig = etc + "kubelet.conf"
	staticPods     = etc + "manifests"
	programDir     = "/usr/local/lib/fairlead-e2e/"
)

// bootIDFile is the kernel's name for the time since it was started (random(4)).
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// kept is what a reboot keeps.
var kept = []string{"/etc/cni/net.d", "/opt/cni/bin", "/var/lib/cni", "/var/lib/containerd", "/var/lib/kubelet", "/var/lib/fairlead", "/var/log"}

// pinned are settings of the whole machine that kubelet wants its own way
// (pkg/kubelet/cm/container_manager_linux.go, setupKernelTunables).
var pinned = map[string]string{
	"/proc/sys/vm/overcommit_memory":      "1",
	"/proc/sys/vm/panic_on_oom":           "0",
	"/proc/sys/kernel/panic":              "10",
	"/proc/sys/kernel/panic_on_oops":      "1",
	"/proc/sys/kernel/keys/root_maxkeys":  "1000000",
	"/proc/sys/kernel/keys/root_maxbytes": "25000000",
}

// spec is what the node's first process makes of the node, in a new boot.
func (n *Node) spec() (node.Spec, error) {
	c := n.c
	s := node.Spec{
		Name: n.name, Memory: n.dir("memory"), Disk: n.dir("disk"), Kept: kept,
		Binds: map[string]string{programDir + "kubernetes": c.programs.Kubernetes},
		Links: map[string]string{},
		Files: map[string]string{
			"/etc/hosts":                  fmt.Sprintf("127.0.0.1 localhost\n::1 localhost\n%s %s\n", n.addresses()[0], n.name),
			"/etc/resolv.conf":            "",
			"/etc/machine-id":             strings.ReplaceAll(n.machineID(), "-", "") + "\n",
			"/etc/containerd/config.toml": containerdConfig,
			kubeletConfig:                 c.kubelet(),
			staticPods + "/.keep":         "",
			proxyConfig:                   c.proxy(n),
		},
		Plugins: []string{"loopback"}, // containerd calls it in every pod, whoever makes the network
		Sysctls: map[string]string{"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"},
		Pinned:  map[string]string{bootIDFile: bootID()},
	}
	if c.config.Network == Bridge {
		s.Plugins = append(s.Plugins, "bridge", "host-local", "portmap")
		s.Sysctls["net/bridge/bridge-nf-call-iptables"] = "1"
		s.Sysctls["net/bridge/bridge-nf-call-ip6tables"] = "1"
	}
	maps.Copy(s.Pinned, pinned)
	for to, from := range map[string]string{
		"ca.crt": "ca.crt", "node.crt": n.name + ".crt", "node.key": n.name + ".key",
		"kubelet.conf": n.name + ".kubeconfig", "kube-proxy.conf": "kube-proxy.kubeconfig",
	} {
		b, err := os.ReadFile(c.dir("pki", from))
		if err != nil {
			return s, err
		}
		s.Files[etc+to] = string(b)
	}
	for _, program := range []string{"kubelet", "kube-proxy", "kubectl"} {
		s.Links["/usr/local/bin/"+program] = programDir + "kubernetes/" + program
	}
	if c.programs.Containerd != "" {
		s.Binds[programDir+"containerd"] = c.programs.Containerd
		for _, program := range []string{"containerd", "containerd-shim-runc-v2", "ctr"} {
			s.Links["/usr/local/bin/"+program] = programDir + "containerd/" + program
		}
	}
	return s, nil
}

// machineID is the node's for good.
func (n *Node) machineID() string {
	file := n.dir("machine-id")
	b, err := os.ReadFile(file)
	if err != nil {
		b = []byte(bootID())
		_ = os.MkdirAll(filepath.Dir(file), 0o755)
		_ = os.WriteFile(file, b, 0o644) // without it the node is another machine after a reboot, which is nothing to fail for
	}
	return string(b)
}

func (c *Cluster) kubelet() string {
	return fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: %[1]sca.crt}}
authorization: {mode: Webhook}
tlsCertFile: %[1]snode.crt
tlsPrivateKeyFile: %[1]snode.key
clusterDNS: [%[2]s]
clusterDomain: cluster.local
resolvConf: /etc/resolv.conf
staticPodPath: %[3]s
maxPods: 150
imageGCHighThresholdPercent: 100
evictionHard: {nodefs.available: "0%%", nodefs.inodesFree: "0%%", imagefs.available: "0%%", memory.available: "50Mi"}
nodeStatusUpdateFrequency: 5s
`, etc, dnsAddress, staticPods)
}

func (c *Cluster) proxy(n *Node) string {
	return fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: %s
clusterCIDR: %s
hostnameOverride: %s
linux: {oomScoreAdj: 0}
clientConnection: {kubeconfig: %skube-proxy.conf}
conntrack: {maxPerCore: 0, min: 0}
`, c.config.Proxy, strings.Join(c.perFamily(podCIDRs), ","), n.name, etc)
}

//go:embed coredns.yaml
var coreDNS string
