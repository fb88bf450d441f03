package tests

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// An agent that may not read one kind says so, and does everything else; the rule
// given back, it is whole again.
func TestAMissingRuleDegradesOnlyWhatNeedsIt(t *testing.T) {
	ns := namespace(t)
	a, b := run(t, ns, "a", "node1"), run(t, ns, "b", "node2")
	before := kubectl(t, "get", "clusterrole", "fairlead-agent", "-o", "json")
	t.Cleanup(func() { restore(t, before) }) // the test may have failed before it did
	var role map[string]any
	if err := json.Unmarshal([]byte(before), &role); err != nil {
		t.Fatal(err)
	}
	restore(t, without(t, role, "fairleadnodes"))
	killAgent(t, "node1")
	until(t, "the agent says what it may not do", func() error {
		said := kubectl(t, "get", "fairleadnode", "node1", "-o", "jsonpath={.status.problems}")
		if !strings.Contains(said, "Kind FairleadNode") || !strings.Contains(said, "ClusterRole") {
			return fmt.Errorf("problems are %s", said)
		}
		return nil
	})
	until(t, "the agent is ready", func() error { return agentAnswers(t, "node1") })
	c := run(t, ns, "c", "node1")
	until(t, "pods reach each other", func() error { return c.hears(t, "http://"+b.address+":8080/hostname", "b") })
	if err := a.hears(t, "http://"+b.address+":8080/hostname", "b"); err != nil {
		t.Error(err)
	}
	restore(t, before)
	until(t, "the agent has no more to say", func() error {
		if said := kubectl(t, "get", "fairleadnode", "node1", "-o", "jsonpath={.status.problems}"); strings.Contains(said, "Kind FairleadNode") {
			return fmt.Errorf("problems are %s", said)
		}
		return nil
	})
}

// without is the role without the right to list and watch the resource.
func without(t *testing.T, role map[string]any, resource string) string {
	t.Helper()
	var rules []any
	for _, r := range role["rules"].([]any) {
		rule := r.(map[string]any)
		resources, verbs := rule["resources"].([]any), rule["verbs"].([]any)
		if slices.Contains(resources, any(resource)) && slices.Contains(verbs, any("watch")) {
			rule["resources"] = slices.DeleteFunc(resources, func(v any) bool { return v == resource })
			rules = append(rules, map[string]any{"apiGroups": rule["apiGroups"], "resources": []string{resource}, "verbs": []string{"get"}})
		}
		if len(rule["resources"].([]any)) > 0 {
			rules = append(rules, rule)
		}
	}
	role["rules"] = rules
	out, err := json.Marshal(role)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// restore makes an object as it is written, whatever it has become.
func restore(t *testing.T, object string) {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal([]byte(object), &o); err != nil {
		t.Fatal(err)
	}
	meta := o["metadata"].(map[string]any)
	delete(meta, "managedFields")
	delete(meta, "resourceVersion")
	written, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tryKubectl(context.Background(), string(written), "replace", "-f", "-"); err != nil {
		t.Error(err)
	}
}
