package kube

import (
	"bytes"
	"maps"
	"os"
	"slices"
	"testing"

	"sigs.k8s.io/yaml"

	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/feature/all"
	"fairlead.dev/fairlead/internal/source"
)

// mayList are the resources that the agent's ClusterRole lets it list and watch.
func mayList(t *testing.T) []string {
	t.Helper()
	manifests, err := os.ReadFile("../../../deploy/fairlead.yaml")
	if err != nil {
		t.Fatal(err)
	}
	may := map[string]bool{}
	for document := range bytes.SplitSeq(manifests, []byte("\n---\n")) {
		var role struct {
			Kind     string
			Metadata struct{ Name string }
			Rules    []struct{ Resources, Verbs []string }
		}
		if err := yaml.Unmarshal(document, &role); err != nil || role.Kind != "ClusterRole" || role.Metadata.Name != "fairlead-agent" {
			continue // others have rules of other forms
		}
		for _, rule := range role.Rules {
			for _, resource := range rule.Resources {
				if list, watch := slices.Contains(rule.Verbs, "list"), slices.Contains(rule.Verbs, "watch"); list || watch {
					may[resource] = true
					if !list || !watch {
						t.Errorf("%s: the verbs are %v", resource, rule.Verbs)
					}
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(may))
}

// An agent asks for what it may have, and may have what it asks for.
func TestTheRoleIsWhatFeaturesNeed(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.put("nodes", anode("n1", "192.0.2.1"))
	read(t, s, hurried("", feature.Needs(all.Features))).until("all is there", func(o *source.Objects) bool { return len(o.Nodes) == 1 })
	s.mu.Lock()
	asked := slices.Sorted(maps.Keys(s.requests))
	s.mu.Unlock()
	if may := mayList(t); !slices.Equal(may, asked) {
		t.Errorf("the agent asks for %v, and its ClusterRole lets it list and watch %v", asked, may)
	}
}
