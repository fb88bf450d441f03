package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// bridge is the reference network: each node has a bridge for its pods, and
// everybody a route to every other node's pods.
func (c *Cluster) bridge(ctx context.Context) error {
	if err := c.learnPods(ctx); err != nil {
		return err
	}
	for _, n := range c.Nodes() {
		if err := n.conflist(c.state.Pods[n.name]); err != nil {
			return err
		}
	}
	return c.routes()
}

// learnPods asks for every node's pod CIDRs.
func (c *Cluster) learnPods(ctx context.Context) error {
	client, err := c.Client()
	if err != nil {
		return err
	}
	c.state.Pods = map[string][]string{}
	for _, n := range c.Nodes() {
		object, err := client.CoreV1().Nodes().Get(ctx, n.name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		c.state.Pods[n.name] = object.Spec.PodCIDRs
	}
	return c.save()
}

// routes makes routes to the pods: the control plane's, which is no node and whose
// API server is a proxy to pods, and, in the reference network, the nodes', also
// those that one has lost by a reboot. There is none before the pod CIDRs are
// known; a node that is off gets its own later.
func (c *Cluster) routes() error {
	for _, n := range c.Nodes() {
		for i, cidr := range c.state.Pods[n.name] {
			_, to, err := net.ParseCIDR(cidr)
			if err != nil {
				return err
			}
			from := []string{control}
			for _, other := range c.Nodes() {
				if pid, _ := other.first().running(); c.config.Network == Bridge && other.name != n.name && pid != 0 {
					from = append(from, other.name)
				}
			}
			for _, who := range from {
				err := c.in(who, func() error {
					return netlink.RouteReplace(&netlink.Route{Dst: to, Gw: n.Addresses()[i].AsSlice()})
				})
				if err != nil && !errors.Is(err, unix.ENETUNREACH) {
					return fmt.Errorf("route from %s to the pods of %s: %w", who, n.name, err)
				}
			}
		}
	}
	return nil
}

// conflist writes the node's CNI configuration, whole or not at all.
func (n *Node) conflist(cidrs []string) error {
	type m = map[string]any
	var ranges [][]m
	var routes []m
	for i, cidr := range cidrs {
		ranges = append(ranges, []m{{"subnet": cidr}})
		routes = append(routes, m{"dst": []string{"0.0.0.0/0", "::/0"}[i]})
	}
	b, err := json.Marshal(m{"cniVersion": "1.0.0", "name": "e2e", "plugins": []m{
		{"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipam": m{"type": "host-local", "ranges": ranges, "routes": routes}},
		{"type": "portmap", "capabilities": m{"portMappings": true}},
	}})
	if err != nil {
		return err
	}
	dir := n.dir("disk/etc/cni/net.d")
	if err := os.WriteFile(filepath.Join(dir, ".new"), b, 0o644); err != nil {
		return err
	}
	return os.Rename(filepath.Join(dir, ".new"), filepath.Join(dir, "10-bridge.conflist"))
}
