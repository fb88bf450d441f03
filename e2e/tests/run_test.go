package tests

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/e2e/enter"
)

// A pod is one that runs, where the test can get into its network.
type pod struct {
	namespace, name, node string
	address               string // the first of podIPs
	addresses             []string
}

// kubectl runs kubectl and returns what it prints; an error is told by the test. It
// has a time of its own, so that cleanups can use it, when the test's is over.
func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := tryKubectl(context.WithoutCancel(t.Context()), "", args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// apply makes the manifests so.
func apply(t *testing.T, manifests string) {
	t.Helper()
	manifests = strings.ReplaceAll(manifests, "AGNHOST", shared.Agnhost())
	if _, err := tryKubectl(t.Context(), manifests, "apply", "--server-side", "-f", "-"); err != nil {
		t.Fatal(err)
	}
}

// kubectlPatience bounds one kubectl: more than any asks for by --timeout.
const kubectlPatience = 4 * time.Minute

func tryKubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, kubectlPatience, fmt.Errorf("it did not end within %s", kubectlPatience))
	defer cancel()
	cmd := shared.Kubectl(ctx, args...)
	var said bytes.Buffer
	cmd.Stderr = &said
	if stdin != "" {
		cmd.Stdin = strings.NewReader(stdin)
	}
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), errors.Join(err, context.Cause(ctx)), bytes.TrimSpace(said.Bytes()))
	}
	return string(out), nil
}

// namespace makes one for the test, which goes with it.
func namespace(t *testing.T) string {
	t.Helper()
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	kubectl(t, "create", "namespace", name)
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), 2*time.Minute)
		defer stop()
		if _, err := tryKubectl(ctx, "", "delete", "namespace", name, "--wait=true"); err != nil {
			t.Error(err)
		}
	})
	return name
}

const podManifest = `
apiVersion: v1
kind: Pod
metadata: {name: %[2]s, namespace: %[1]s, labels: {app: %[2]s}}
spec:
  nodeName: %[3]s
  terminationGracePeriodSeconds: 0
  tolerations: [{operator: Exists}]
  containers:
  - name: c
    image: AGNHOST
    args: [netexec, --http-port=8080, --udp-port=8081]
    imagePullPolicy: Never
    ports: [{containerPort: 8080}]
    readinessProbe: {httpGet: {path: /healthz, port: 8080}, periodSeconds: 1}
`

// run starts a web server as a pod on the node.
func run(t *testing.T, namespace, name, node string) *pod {
	t.Helper()
	apply(t, fmt.Sprintf(podManifest, namespace, name, node))
	return ready(t, namespace, name)
}

// ready waits for the pod to be so.
func ready(t *testing.T, namespace, name string) *pod {
	t.Helper()
	kubectl(t, "wait", "-n", namespace, "--for=condition=Ready", "pod/"+name, "--timeout=150s")
	var got struct {
		Spec   struct{ NodeName string }
		Status struct {
			PodIPs []struct{ IP string }
		}
	}
	if err := json.Unmarshal([]byte(kubectl(t, "get", "pod", "-n", namespace, name, "-o", "json")), &got); err != nil {
		t.Fatal(err)
	}
	p := &pod{namespace: namespace, name: name, node: got.Spec.NodeName}
	for _, ip := range got.Status.PodIPs {
		p.addresses = append(p.addresses, ip.IP)
	}
	if len(p.addresses) == 0 {
		t.Fatalf("pod %s is ready and has no address", name)
	}
	p.address = p.addresses[0]
	return p
}

// inside prepares a command in the pod's network namespace, as a process of the
// test.
func (p *pod) inside(t *testing.T, command ...string) *enter.Cmd {
	t.Helper()
	var netns string
	until(t, "the network namespace of "+p.name, func() (err error) {
		netns, err = p.netns(t)
		return err
	})
	return shared.Node(p.node).Command(context.Background(), append([]string{"nsenter", "--net=" + netns}, command...)...)
}

// netns finds the pod's network namespace by its address.
func (p *pod) netns(t *testing.T) (string, error) {
	const find = `for n in /run/netns/*; do nsenter --net="$n" ip -o address show | grep -qF " $1/" && echo "$n" && exit; done; exit 1`
	out, err := shared.Node(p.node).Command(t.Context(), "bash", "-c", find, "find", p.address).Output()
	if err != nil {
		return "", errors.Join(errors.New("no namespace on "+p.node+" has "+p.address), err)
	}
	return strings.TrimSpace(out), nil
}

// fetch asks a web server from the pod, and returns what it says.
func (p *pod) fetch(t *testing.T, url string) (string, error) {
	out, err := p.inside(t, "curl", "-sS", "-f", "-m", "5", url).Output()
	if err != nil {
		err = fmt.Errorf("%s asks %s: %w", p.name, url, err)
	}
	return out, err
}

// hears is an error unless the server at url says that it is want.
func (p *pod) hears(t *testing.T, url, want string) error {
	got, err := p.fetch(t, url)
	if err == nil && strings.TrimSpace(got) != want {
		err = fmt.Errorf("%s asks %s and hears %q, want %q", p.name, url, got, want)
	}
	return err
}
