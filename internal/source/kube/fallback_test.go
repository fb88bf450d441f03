package kube

import (
	"net/http"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/world"
)

func TestAFallbackCountsWhereTheServerHasNone(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.put("nodes", anode("n1", "192.0.2.1"))
	s.refuse("fairleadnodes", http.StatusNotFound)
	own := &v1alpha1.AgentConfig{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.DefaultConfig}}
	mistake := world.Problem{Object: "config.yaml", Reason: "a mistake"}
	r := read(t, s, func(c *Config) {
		c.Fallback = &source.Objects{Configs: []*v1alpha1.AgentConfig{own}, Problems: []world.Problem{mistake}}
	})
	o := r.until("all is there", whatever)
	if got := source.ConfigsOf(o.Configs, "n1"); len(got) != 1 || got[0] != own || !slices.Contains(o.Problems, mistake) || len(o.Problems) != 2 {
		t.Errorf("configs %v, problems %v", got, o.Problems)
	}
	s.put("agentconfigs", &v1alpha1.AgentConfig{ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.DefaultConfig}})
	o = r.until("the server's is there", func(o *source.Objects) bool { return len(o.Configs) == 2 })
	if got := source.ConfigsOf(o.Configs, "n1"); len(got) != 1 || got[0] == own {
		t.Errorf("the fallback counts although the server has a default")
	}
	s.remove("agentconfigs", own)
	o = r.until("the server's is gone", func(o *source.Objects) bool { return len(o.Configs) == 1 })
	if o.Configs[0] != own {
		t.Error("the fallback is another value")
	}
}
