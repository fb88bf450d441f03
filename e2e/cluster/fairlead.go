package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/e2e/build"
)

// FairleadNamespace is where Fairlead runs.
const FairleadNamespace = "fairlead-system"

// Release builds Fairlead from a source tree, for this cluster: see build.Builder.Fairlead.
func (c *Cluster) Release(ctx context.Context, tree, version string, values ...string) (build.Release, error) {
	b, err := build.New(c.config.Log)
	if err != nil {
		return build.Release{}, err
	}
	if c.config.Proxy == NoProxy {
		values = append(values, "apiServer="+c.server()) // nobody serves the Service kubernetes
	}
	return b.Fairlead(ctx, tree, version, values...)
}

// Install installs a release of Fairlead, or replaces another by it, and waits
// until all its pods are of this release and ready.
func (c *Cluster) Install(ctx context.Context, r build.Release) error {
	if err := c.each(func(n *Node) error { return n.importOnce(ctx, r.Image) }); err != nil {
		return err
	}
	manifests, err := os.ReadFile(r.Manifests)
	if err != nil {
		return err
	}
	if err := errors.Join(c.Apply(ctx, string(manifests)), c.learnPods(ctx), c.routes()); err != nil {
		return err
	}
	c.say("Fairlead installed")
	return c.FairleadReady(ctx)
}

// FairleadReady waits until every pod of Fairlead is of the release installed
// last, and ready.
func (c *Cluster) FairleadReady(ctx context.Context) error {
	client, err := c.Client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err = Eventually(ctx, "Fairlead's pods ready", func(ctx context.Context) error {
		agents, err := client.AppsV1().DaemonSets(FairleadNamespace).Get(ctx, "fairlead-agent", metav1.GetOptions{})
		if err != nil {
			return err
		}
		controller, err := client.AppsV1().Deployments(FairleadNamespace).Get(ctx, "fairlead-controller", metav1.GetOptions{})
		if err != nil {
			return err
		}
		if s := agents.Status; s.ObservedGeneration < agents.Generation || s.UpdatedNumberScheduled < s.DesiredNumberScheduled ||
			s.NumberReady < s.DesiredNumberScheduled || int(s.DesiredNumberScheduled) < c.config.Nodes {
			return fmt.Errorf("%d of %d agents are ready", s.NumberReady, c.config.Nodes)
		}
		if s, want := controller.Status, *controller.Spec.Replicas; s.ObservedGeneration < controller.Generation || s.UpdatedReplicas != want || s.ReadyReplicas != want || s.Replicas != want {
			return fmt.Errorf("%d of %d controllers are ready", s.ReadyReplicas, want)
		}
		return nil
	})
	if err == nil {
		c.say("Fairlead's pods ready")
	}
	return err
}

// Describe says in a line what kind of cluster this is.
func (c *Cluster) Describe(ctx context.Context) (string, error) {
	client, err := c.Client()
	if err != nil {
		return "", err
	}
	first, err := client.CoreV1().Nodes().Get(ctx, c.Nodes()[0].name, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	i := first.Status.NodeInfo
	return fmt.Sprintf("Kubernetes %s, %s, kube-proxy %s", i.KubeletVersion, strings.Replace(i.ContainerRuntimeVersion, "://", " ", 1), c.config.Proxy), nil
}
