package tests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// The agents have told how their nodes are, and kubelets go on telling theirs.
func TestNodesSayHowTheyAre(t *testing.T) {
	for _, n := range shared.Nodes() {
		eventually(t, n.Name()+" has its conditions", func() bool { return healthy(t, n.Name()) })
	}
	n := shared.Nodes()[0]
	began := metav1.Now()
	if err := n.Stop(t.Context(), "kubelet"); err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context(), "kubelet"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the kubelet has written its conditions, and ours is there", func() bool {
		return heartbeat(t, n.Name()).After(began.Time) && healthy(t, n.Name())
	})
}

// healthy reports whether a Node and its FairleadNode say that all is well.
func healthy(t *testing.T, name string) bool {
	t.Helper()
	var n corev1.Node
	get(t, &n, "node", name)
	conditions := map[corev1.NodeConditionType]string{}
	for _, c := range n.Status.Conditions {
		conditions[c.Type] = string(c.Status) + " " + c.Reason
	}
	var f struct {
		Metadata metav1.ObjectMeta
		Status   struct {
			Version    string
			Conditions []metav1.Condition
		}
	}
	get(t, &f, "fairleadnodes", name)
	return conditions[corev1.NodeReady] == "True KubeletReady" &&
		conditions[corev1.NodeNetworkUnavailable] == "False FairleadReady" &&
		len(f.Metadata.OwnerReferences) == 1 && f.Metadata.OwnerReferences[0].UID == n.UID &&
		f.Status.Version != "" && len(f.Status.Conditions) > 0 && f.Status.Conditions[0].Status == metav1.ConditionTrue
}

func heartbeat(t *testing.T, node string) time.Time {
	t.Helper()
	var n corev1.Node
	get(t, &n, "node", node)
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.LastHeartbeatTime.Time
		}
	}
	return time.Time{}
}

// The writer itself, with the rights that the chart gives, and the policy that holds
// each agent to its node.
func TestWhatAgentsMayWriteAndDo(t *testing.T) {
	ctx, cancel := context.WithTimeoutCause(t.Context(), compilePatience, fmt.Errorf("it did not end within %s", compilePatience))
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-C", "../..", "-trimpath", "-vet=off", "-count=1", "-tags=e2e", "./internal/status")
	cmd.Env, cmd.WaitDelay = append(os.Environ(), "KUBECONFIG="+shared.Kubeconfig()), 5*time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", errors.Join(err, context.Cause(ctx)), out)
	}
}

// get reads an object; one that is not there stays empty.
func get(t *testing.T, into any, kind, name string) {
	t.Helper()
	out := kubectl(t, "get", kind, name, "-o", "json", "--ignore-not-found")
	if strings.TrimSpace(out) == "" {
		return
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatal(err)
	}
}

// eventually waits for what must come.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); !is(); time.Sleep(200 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}
