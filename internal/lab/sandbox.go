package lab

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/netns"
)

// A sandbox is a pod's namespace with its place in the pod network.
type sandbox struct {
	lab Lab
	id  string // of the container, towards the plugin
	pod *corev1.Pod
}

func newSandbox(l Lab, pod *corev1.Pod) *sandbox {
	id := make([]byte, 16)
	rand.Read(id)
	return &sandbox{lab: l, id: hex.EncodeToString(id), pod: pod}
}

func (s *sandbox) netns() string { return s.lab.podNetns(s.pod.Namespace, s.pod.Name) }

// open makes the namespace anew.
func (s *sandbox) open() error {
	path := s.netns()
	if err := netns.Delete(path); err != nil {
		return err
	}
	if err := netns.New(path[len(netns.Dir)+1:]); err != nil {
		return err
	}
	return netns.Do(path, func() error {
		for _, of := range []string{"all", "default"} {
			for _, key := range []sysctl.Setting{
				{Key: "net/ipv4/conf/" + of + "/rp_filter", Value: "0"}, {Key: "net/ipv6/conf/" + of + "/accept_dad", Value: "0"},
			} {
				if err := sysctl.Apply(key); err != nil {
					return err
				}
			}
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
}

// pluginPatience bounds one run of the plugin.
const pluginPatience = 40 * time.Second

// add runs the plugin's ADD and returns the pod's addresses.
func (s *sandbox) add(ctx context.Context) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, pluginPatience)
	defer cancel()
	plugin, list, err := s.plugin()
	if err != nil {
		return nil, err
	}
	runtime := s.runtime()
	if runtime.CapabilityArgs, err = capabilities(s.pod); err != nil {
		return nil, err
	}
	answer, err := plugin.AddNetworkList(ctx, list, runtime)
	if err != nil {
		return nil, err
	}
	result, err := current.NewResultFromResult(answer)
	if err != nil {
		return nil, fmt.Errorf("result of the plugin: %w", err)
	}
	var out []netip.Addr
	for _, ip := range result.IPs {
		if a, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			out = append(out, a.Unmap())
		}
	}
	return out, nil
}

// del runs the plugin's DEL.
func (s *sandbox) del(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, pluginPatience)
	defer cancel()
	plugin, list, err := s.plugin()
	if err != nil {
		return err
	}
	return plugin.DelNetworkList(ctx, list, s.runtime())
}

func (s *sandbox) plugin() (*libcni.CNIConfig, *libcni.NetworkConfigList, error) {
	node := s.pod.Spec.NodeName
	conf, err := cni.Config(s.lab.AgentSocket(node), s.lab.stateDir(node))
	if err != nil {
		return nil, nil, err
	}
	list, err := libcni.NetworkConfFromBytes(conf)
	return libcni.NewCNIConfigWithCacheDir([]string{s.lab.bin()}, s.lab.path("cni"), nil), list, err
}

func (s *sandbox) runtime() *libcni.RuntimeConf {
	return &libcni.RuntimeConf{
		ContainerID: s.id, NetNS: s.netns(), IfName: "eth0",
		Args: [][2]string{
			{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", s.pod.Namespace},
			{"K8S_POD_NAME", s.pod.Name}, {"K8S_POD_UID", string(s.pod.UID)}, {"K8S_POD_INFRA_CONTAINER_ID", s.id},
		},
	}
}

// isTryAgain reports whether the plugin asked to be run again later.
func isTryAgain(err error) bool {
	var e *types.Error
	return errors.As(err, &e) && e.Code == types.ErrTryAgainLater
}
