package lab

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"

	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/netns"
)

// A sandbox is a pod's namespace with its place in the pod network.
type sandbox struct {
	lab             Lab
	id              string // of the container, towards the plugin
	node            string
	namespace, name string // of the pod
}

func newSandbox(l Lab, node string, pod ref) *sandbox {
	id := make([]byte, 16)
	rand.Read(id)
	return &sandbox{lab: l, id: hex.EncodeToString(id), node: node, namespace: pod.namespace, name: pod.name}
}

func (s *sandbox) netns() string { return s.lab.podNetns(s.namespace, s.name) }

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
	answer, err := plugin.AddNetworkList(ctx, list, s.runtime())
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
	conf, err := json.Marshal(map[string]any{
		"cniVersion": "1.0.0", "name": "fairlead",
		"plugins": []map[string]string{{
			"type": "fairlead", "socket": s.lab.AgentSocket(s.node), "stateDir": s.lab.stateDir(s.node),
		}},
	})
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
			{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", s.namespace},
			{"K8S_POD_NAME", s.name}, {"K8S_POD_INFRA_CONTAINER_ID", s.id},
		},
	}
}

// isTryAgain reports whether the plugin asked to be run again later.
func isTryAgain(err error) bool {
	var e *types.Error
	return errors.As(err, &e) && e.Code == types.ErrTryAgainLater
}
