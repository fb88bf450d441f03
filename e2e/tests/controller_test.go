package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/e2e/cluster"
)

// configure applies an AgentConfig, which goes when the test ends.
func configure(t *testing.T, name, spec string) {
	t.Helper()
	manifest := fmt.Sprintf("{apiVersion: fairlead.dev/v1alpha1, kind: AgentConfig, metadata: {name: %s}, spec: {%s}}", name, spec)
	if err := shared.Apply(t.Context(), manifest); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = tryKubectl(context.WithoutCancel(t.Context()), "", "delete", "--ignore-not-found", "agentconfig", name)
	})
}

// accepted waits until the condition Accepted of an AgentConfig is about the
// object as it is now, and says what is wanted: "False Problems: message".
func accepted(t *testing.T, name, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := cluster.Eventually(ctx, "AgentConfig "+name+" judged", func(ctx context.Context) error {
		out, err := tryKubectl(ctx, "", "get", "agentconfig", name, "-o", "json")
		if err != nil {
			return err
		}
		var o struct {
			Metadata metav1.ObjectMeta
			Status   struct{ Conditions []metav1.Condition }
		}
		if err := json.Unmarshal([]byte(out), &o); err != nil {
			return err
		}
		for _, c := range o.Status.Conditions {
			said := fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message)
			if c.Type == "Accepted" && c.ObservedGeneration == o.Metadata.Generation && strings.Contains(said, want) {
				return nil
			}
		}
		return fmt.Errorf("conditions %v of generation %d, want %s", o.Status.Conditions, o.Metadata.Generation, want)
	})
	if err != nil {
		t.Error(err)
	}
}

// What a schema cannot see, nodes find, and the object says so.
func TestAnAgentConfigSaysWhatNodesMakeOfIt(t *testing.T) {
	configure(t, "node1", `nodeSNATRandomizePorts: true`)
	accepted(t, "node1", "True Accepted: read on 1 of 1 node, without a problem")
	configure(t, "node1", `overlay: {interface: nosuch0}`)
	accepted(t, "node1", "False Problems: spec.overlay.interface: no interface of the node matches nosuch0")
	configure(t, "node1", `overlay: {mode: vxlan}`)
	accepted(t, "node1", "True Accepted: read on 1 of 1 node, without a problem")
	configure(t, "node9", `nodeSNATRandomizePorts: true`)
	accepted(t, "node9", "False NoSuchNode: there is no Node node9")
}

func leader(ctx context.Context) (string, error) {
	return tryKubectl(ctx, "", "-n", cluster.FairleadNamespace, "get", "lease", "fairlead-controller", "-o", "jsonpath={.spec.holderIdentity}")
}

// When the controller that leads goes, the other takes over and does its work.
func TestAnotherControllerTakesOver(t *testing.T) {
	for _, how := range []string{"--grace-period=10", "--grace-period=1"} {
		was, err := leader(t.Context())
		if err != nil || was == "" {
			t.Fatalf("leader %q: %v", was, err)
		}
		pod, _, _ := strings.Cut(was, "_")
		began := time.Now()
		kubectl(t, "-n", cluster.FairleadNamespace, "delete", "pod", pod, "--wait=false", how)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		err = cluster.Eventually(ctx, "another leader", func(ctx context.Context) error {
			is, err := leader(ctx)
			if err == nil && (is == "" || is == was) {
				err = fmt.Errorf("%q leads", is)
			}
			return err
		})
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("after delete %s another leads in %s", how, time.Since(began).Round(100*time.Millisecond))
		configure(t, "node2", `nodeSNATRandomizePorts: true`)
		accepted(t, "node2", "True Accepted")
		if err := shared.FairleadReady(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}
