package cluster

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// registered waits until every node has an object, with addresses for its pods.
func (c *Cluster) registered(ctx context.Context) error {
	return c.nodes(ctx, "nodes registered", func(n corev1.Node) string {
		if n.Spec.PodCIDR == "" {
			return "has no pod CIDR"
		}
		return ""
	})
}

// WaitReady waits until every node is Ready and names are resolved.
func (c *Cluster) WaitReady(ctx context.Context) error {
	err := c.nodes(ctx, "nodes Ready", func(n corev1.Node) string {
		if ours := c.Node(n.Name); ours != nil && ours.BootID() != n.Status.NodeInfo.BootID {
			return "was rebooted, and its kubelet has not told yet"
		}
		for _, condition := range n.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status != corev1.ConditionTrue {
				return "is not Ready: " + condition.Message
			}
		}
		return ""
	})
	if err != nil {
		return err
	}
	c.say("nodes Ready")
	client, err := c.Client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err = Eventually(ctx, "CoreDNS available", func(ctx context.Context) error {
		d, err := client.AppsV1().Deployments("kube-system").Get(ctx, "coredns", metav1.GetOptions{})
		if err == nil && d.Status.AvailableReplicas == 0 {
			err = fmt.Errorf("of %d replicas none is available", d.Status.Replicas)
		}
		return err
	})
	if err == nil {
		c.say("CoreDNS available")
	}
	return err
}

// nodes waits until lacks says "" of every node of the cluster.
func (c *Cluster) nodes(ctx context.Context, what string, lacks func(corev1.Node) string) error {
	client, err := c.Client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return Eventually(ctx, what, func(ctx context.Context) error {
		list, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		var all []string
		seen := map[string]bool{}
		for _, n := range list.Items {
			seen[n.Name] = true
			if lack := lacks(n); lack != "" {
				all = append(all, n.Name+" "+lack)
			}
		}
		for _, n := range c.Nodes() {
			if !seen[n.name] {
				all = append(all, n.name+" is not registered, see "+n.Log("kubelet"))
			}
		}
		if len(all) > 0 {
			return fmt.Errorf("%s", strings.Join(all, "; "))
		}
		return nil
	})
}
