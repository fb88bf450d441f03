package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/internal/netns"
)

// bridge is the reference network: each node has a bridge for its pods, and
// everybody a route to every other node's pods.
func (c *Cluster) bridge(ctx context.Context) error {
	client, err := c.Client()
	if err != nil {
		return err
	}
	for _, n := range c.Nodes() {
		object, err := client.CoreV1().Nodes().Get(ctx, n.name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if err := n.conflist(object.Spec.PodCIDRs); err != nil {
			return err
		}
		for i, cidr := range object.Spec.PodCIDRs {
			_, to, err := net.ParseCIDR(cidr)
			if err != nil {
				return err
			}
			from := []string{c.netns(control)}
			for _, other := range c.Nodes() {
				if other.name != n.name {
					from = append(from, c.netns(other.name))
				}
			}
			for _, space := range from {
				err := netns.Do(space, func() error {
					return netlink.RouteReplace(&netlink.Route{Dst: to, Gw: n.Addresses()[i].AsSlice()})
				})
				if err != nil {
					return fmt.Errorf("route to the pods of %s: %w", n.name, err)
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
