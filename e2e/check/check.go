// Package check asks a cluster whether its pods reach each other: across nodes, by
// Services, by names, from the nodes and from outside, in every family it has.
package check

import (
	"context"
	_ "embed" // pods.yaml
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"fairlead.dev/fairlead/e2e/cluster"
)

//go:embed pods.yaml
var manifests string

// patience is for kube-proxy and DNS, which follow what is written in their time.
const patience = 2 * time.Minute

// removePatience is for the API server to take note that what was made may go.
const removePatience = 30 * time.Second

// A target is somebody to ask for a name, and who may answer.
type target struct {
	url     string
	answers []string // names of pods
}

// Connectivity runs a pod on each node and has everybody ask everybody. It
// returns how many answers were right, and takes away what it made.
func Connectivity(ctx context.Context, c *cluster.Cluster) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	client, err := c.Client()
	if err != nil {
		return 0, err
	}
	q := questions{c: c, client: client, namespace: fmt.Sprintf("fairlead-check-%x", time.Now().UnixNano())} // the last one may be going still
	if err := c.Apply(ctx, strings.NewReplacer("IMAGE", c.Agnhost(), "NAMESPACE", q.namespace).Replace(manifests)); err != nil {
		return 0, err
	}
	right, err := q.everybody(ctx)
	tidy, stop := context.WithTimeout(context.WithoutCancel(ctx), removePatience)
	defer stop()
	remove := client.CoreV1().Namespaces().Delete(tidy, q.namespace, metav1.DeleteOptions{})
	return right, errors.Join(err, remove)
}

// questions are those of one check, with a namespace of its own.
type questions struct {
	c         *cluster.Cluster
	client    kubernetes.Interface
	namespace string
}

func (q questions) everybody(ctx context.Context) (int, error) {
	var right int
	err := cluster.Eventually(ctx, "pods reach each other", func(ctx context.Context) error {
		pods, err := q.ready(ctx)
		if err != nil {
			return err
		}
		service, err := q.client.CoreV1().Services(q.namespace).Get(ctx, "web", metav1.GetOptions{})
		if err != nil {
			return err
		}
		right = 0
		all := targets(pods, service)
		ask := func(who string, run func(args ...string) (string, error)) error {
			n, err := answers(all, run)
			right += n
			if err != nil {
				return fmt.Errorf("from %s: %w", who, err)
			}
			return nil
		}
		for _, p := range pods {
			err = errors.Join(err, ask("the pod on "+p.Spec.NodeName, func(args ...string) (string, error) {
				out, err := q.c.Kubectl(ctx, append([]string{"exec", "-n", q.namespace, p.Name, "--"}, args...)...).CombinedOutput()
				return string(out), err
			}))
		}
		all = slices.DeleteFunc(all, func(t target) bool { return strings.Contains(t.url, "//web") }) // nodes ask no cluster DNS
		for _, n := range q.c.Nodes() {
			err = errors.Join(err, ask(n.Name(), func(args ...string) (string, error) { return n.Command(ctx, args...).Output() }))
		}
		return err
	})
	return right, err
}

// ready lists the pods, once there is a ready one on each node.
func (q questions) ready(ctx context.Context) ([]corev1.Pod, error) {
	list, err := q.client.CoreV1().Pods(q.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	pods := slices.DeleteFunc(list.Items, func(p corev1.Pod) bool {
		return p.DeletionTimestamp != nil || !slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		})
	})
	if len(pods) != len(q.c.Nodes()) {
		return nil, fmt.Errorf("%d of %d pods are ready", len(pods), len(q.c.Nodes()))
	}
	return pods, nil
}

// targets are each pod by its addresses, and all of them by their Service: its
// addresses, its name, and its port of the nodes that they are on.
func targets(pods []corev1.Pod, service *corev1.Service) []target {
	var out []target
	var names []string
	for _, p := range pods {
		names = append(names, p.Name)
		for _, ip := range p.Status.PodIPs {
			out = append(out, target{"http://" + net.JoinHostPort(ip.IP, "8080"), []string{p.Name}})
		}
	}
	port := strconv.Itoa(int(service.Spec.Ports[0].NodePort))
	for _, p := range pods {
		for _, ip := range p.Status.HostIPs {
			out = append(out, target{"http://" + net.JoinHostPort(ip.IP, port), names})
		}
	}
	for _, ip := range service.Spec.ClusterIPs {
		out = append(out, target{"http://" + net.JoinHostPort(ip, "80"), names})
	}
	return append(out, target{"http://web", names}, target{"http://web." + service.Namespace + ".svc.cluster.local", names})
}

// answers asks all targets, and counts those that answer as they should.
func answers(all []target, run func(args ...string) (string, error)) (int, error) {
	script := `for t; do echo "$(curl -sS -m 5 "$t/hostname" 2>&1)"; done`
	args := []string{"sh", "-c", script, "sh"}
	for _, t := range all {
		args = append(args, t.url)
	}
	out, err := run(args...)
	if err != nil {
		return 0, fmt.Errorf("%w: %s", err, out)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if len(lines) != len(all) {
		return 0, fmt.Errorf("%d answers to %d questions:\n%s", len(lines), len(all), out)
	}
	right := 0
	for i, t := range all {
		if slices.Contains(t.answers, lines[i]) {
			right++
		} else {
			err = errors.Join(err, fmt.Errorf("%s answers %q", t.url, lines[i]))
		}
	}
	return right, err
}
