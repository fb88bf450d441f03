package tests

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairlead.dev/fairlead/e2e/cluster"
)

// lacking are agents without one of their privileges, and what they say then: as
// docs/install.md has it.
var lacking = map[string]struct {
	take func(*corev1.PodSpec)
	says string
}{
	"nothing":    {func(*corev1.PodSpec) {}, "the kernel holds exactly what it should"},
	"NET_ADMIN":  {capability("NET_ADMIN"), "operation not permitted"},
	"NET_RAW":    {capability("NET_RAW"), "open ICMP socket"},
	"SYS_ADMIN":  {capability("SYS_ADMIN"), "enter network namespace"},
	"/run/netns": {mount("/run/netns"), "is no network namespace"},
	"HostToContainer": {func(s *corev1.PodSpec) {
		for i := range s.Containers[0].VolumeMounts {
			s.Containers[0].VolumeMounts[i].MountPropagation = nil
		}
	}, "is no network namespace"},
	"/proc/sys/net": {mount("/host/proc/sys/net"), "/proc/sys is read-only"},
}

func capability(name corev1.Capability) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) {
		c := s.Containers[0].SecurityContext.Capabilities
		c.Add = slices.DeleteFunc(c.Add, func(c corev1.Capability) bool { return c == name })
	}
}

func mount(path string) func(*corev1.PodSpec) {
	return func(s *corev1.PodSpec) {
		c := &s.Containers[0]
		c.VolumeMounts = slices.DeleteFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == path })
	}
}

// A host port takes a setting of the wire.
const wantsANetwork = `{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "wants-a-network"}, "spec": {"nodeName": %q,
	"terminationGracePeriodSeconds": 0, "containers": [{"name": "c", "image": "registry.k8s.io/pause:3.10", "ports": [{"containerPort": 80, "hostPort": 18081}]}]}}`

// lacks is the annotation that tells such agents apart.
const lacks = "fairlead.dev/e2e-lacks"

// The agent needs each of its privileges: one node's goes without one at a time,
// and says so. Pods that run keep their network: what an agent cannot see or do
// does not end what is there.
func TestTheAgentNeedsEachOfItsPrivileges(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	node := shared.Nodes()[0].Name()
	ns := namespace(t)
	running := begin(t, run(t, ns, "a", node), run(t, ns, "b", "node2"))
	client, err := shared.Client()
	if err != nil {
		t.Fatal(err)
	}
	before, err := client.AppsV1().DaemonSets(cluster.FairleadNamespace).Get(ctx, "fairlead-agent", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range lacking {
		t.Run(what, func(t *testing.T) {
			d := before.Spec.DeepCopy()
			d.UpdateStrategy = appsv1.DaemonSetUpdateStrategy{Type: appsv1.OnDeleteDaemonSetStrategyType}
			d.Template.Annotations = map[string]string{lacks: what}
			c.take(&d.Template.Spec)
			replace(ctx, t, d)
			if err := within(ctx, "an agent that lacks "+what, func(ctx context.Context) error { return says(ctx, client, node, d) }); err != nil {
				t.Error(err)
			}
			if _, err := tryKubectl(ctx, "", "delete", "pod", "wants-a-network", "--force", "--wait"); err != nil {
				t.Error(err)
			}
		})
	}
	replace(ctx, t, &before.Spec)
	if err := shared.FairleadReady(ctx); err != nil {
		t.Error(err)
	}
	if err := shared.WaitReady(ctx); err != nil {
		t.Error(err)
	}
	running.unharmed()
}

// within gives f two minutes.
func within(ctx context.Context, what string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	return cluster.Eventually(ctx, what, f)
}

// replace makes spec that of the DaemonSet.
func replace(ctx context.Context, t *testing.T, spec *appsv1.DaemonSetSpec) {
	t.Helper()
	client, err := shared.Client()
	if err != nil {
		t.Fatal(err)
	}
	sets := client.AppsV1().DaemonSets(cluster.FairleadNamespace)
	if err := within(ctx, "the DaemonSet takes the change", func(ctx context.Context) error {
		d, err := sets.Get(ctx, "fairlead-agent", metav1.GetOptions{})
		if err != nil {
			return err
		}
		spec.DeepCopyInto(&d.Spec)
		_, err = sets.Update(ctx, d, metav1.UpdateOptions{})
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// started reports whether the pod's container runs, or ran.
func started(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool {
		return s.State.Running != nil || s.State.Terminated != nil || s.LastTerminationState.Terminated != nil
	})
}

// says has the node's agent replaced by one of the DaemonSet's, and reports
// whether that one says what it lacks.
func says(ctx context.Context, client kubernetes.Interface, node string, d *appsv1.DaemonSetSpec) error {
	what := d.Template.Annotations[lacks]
	pods := client.CoreV1().Pods(cluster.FairleadNamespace)
	list, err := pods.List(ctx, metav1.ListOptions{
		LabelSelector: "app.kubernetes.io/component=agent", FieldSelector: "spec.nodeName=" + node,
	})
	if err != nil {
		return err
	}
	for _, p := range list.Items {
		if p.DeletionTimestamp != nil {
			continue
		}
		if p.Annotations[lacks] != what {
			return errors.Join(errors.New("there is another agent"), pods.Delete(ctx, p.Name, metav1.DeleteOptions{}))
		}
		// Only now: it would see the mounts that are there when it starts.
		if !started(&p) {
			return errors.New("the agent has not started")
		}
		// Asked for by the new agent, since the DaemonSet starts it when the old is gone.
		if err := shared.Apply(ctx, fmt.Sprintf(wantsANetwork, node)); err != nil {
			return err
		}
		kubectl := func(args ...string) string {
			out, _ := shared.Kubectl(ctx, append([]string{"-n", cluster.FairleadNamespace}, args...)...).CombinedOutput() // what fails says why
			return string(out)
		}
		said := kubectl("logs", p.Name) + kubectl("exec", p.Name, "--", "/fairlead", "doctor")
		if !strings.Contains(said, lacking[what].says) {
			return fmt.Errorf("does not say %q but\n%s", lacking[what].says, said)
		}
		return nil
	}
	return errors.New("there is no agent")
}
