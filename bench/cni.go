package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
	current "github.com/containernetworking/cni/pkg/types/100"
)

// A podNetwork runs CNI plugins as container runtimes do: by libcni.
type podNetwork struct {
	runtime *libcni.CNIConfig
	list    *libcni.NetworkConfigList
}

// newPodNetwork takes the plugins of a folder and the text of a network
// configuration list.
func newPodNetwork(b *bench, plugins, conflist string) *podNetwork {
	list, err := libcni.NetworkConfFromBytes([]byte(conflist))
	if err != nil {
		b.Fatalf("%v in\n%s", err, conflist)
	}
	return &podNetwork{libcni.NewCNIConfigWithCacheDir([]string{plugins}, b.dir("cni"), nil), list}
}

func attempt(container, netns string) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: container, NetNS: netns, IfName: "eth0"}
}

// add attaches a container by plugins that run in the namespace of the calling
// thread, and returns its addresses.
func (n *podNetwork) add(container, netns string) ([]netip.Addr, error) {
	out, err := n.runtime.AddNetworkList(context.Background(), n.list, attempt(container, netns))
	if err != nil {
		return nil, fmt.Errorf("add %s: %w", container, err)
	}
	result, err := current.NewResultFromResult(out)
	if err != nil {
		return nil, fmt.Errorf("add %s: %w", container, err)
	}
	var addresses []netip.Addr
	for _, ip := range result.IPs {
		a, _ := netip.AddrFromSlice(ip.Address.IP)
		addresses = append(addresses, a.Unmap())
	}
	return addresses, nil
}

// del takes a container off again.
func (n *podNetwork) del(container, netns string) error {
	if err := n.runtime.DelNetworkList(context.Background(), n.list, attempt(container, netns)); err != nil {
		return fmt.Errorf("del %s: %w", container, err)
	}
	return nil
}

// pluginDir is where the plugins of others are.
func pluginDir(b *bench) string {
	const needed = "bridge"
	for _, dir := range []string{"/usr/lib/cni", "/opt/cni/bin"} {
		if _, err := os.Stat(filepath.Join(dir, needed)); err == nil {
			return dir
		}
	}
	b.Fatalf("Flannel's arrangement needs the CNI plugin %s in /usr/lib/cni or /opt/cni/bin: run make deps (it is in Debian's package containernetworking-plugins)", needed)
	return ""
}
