package source

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/world"
)

// Where nothing is written of Egresses, their ports are random as those of the node's
// addresses are; their range is their own. The node's own settings count before the
// default ones.
func TestEgressPortsFollowThoseOfTheNode(t *testing.T) {
	t.Parallel()
	fixed := world.PortChoice{Mode: world.PortsFixed, Range: world.PortRange{Low: 40000, High: 49999}}
	for _, c := range []struct {
		all, own string
		want     world.SNAT
	}{
		{"{}", "{}", world.SNAT{Randomize: true}},
		{"{nodeSNATRandomizePorts: false, nodeSNATPortRange: kernel}", "{}", world.SNAT{Asked: true}},
		{"{egressSNATRandomizePorts: null}", "{nodeSNATRandomizePorts: true}", world.SNAT{Randomize: true, Asked: true}},
		{"{egressSNATRandomizePorts: true}", "{nodeSNATRandomizePorts: false}", world.SNAT{Randomize: true, Asked: true}},
		{"{egressSNATRandomizePorts: true}", "{egressSNATRandomizePorts: false}", world.SNAT{Asked: true}},
		{"{egressSNATPortRange: 40000-49999}", "{nodeSNATPortBlock: 64}", world.SNAT{Randomize: true, Ports: fixed}},
		{"{egressSNATPortRange: 40000-49999}", "{egressSNATPortRange: kernel}", world.SNAT{Randomize: true, Ports: world.PortChoice{Mode: world.PortsKernel}}},
		{"{egressSNATPortRange: kernel}", "{egressSNATPortRange: auto}", world.SNAT{Randomize: true}},
		{"{egressSNATPortRange: 40000-49999}", "{egressSNATPortRange: 49999-40000}", world.SNAT{Randomize: true, Ports: fixed}},
	} {
		var configs []*v1alpha1.AgentConfig
		for name, spec := range map[string]string{"default": c.all, "n1": c.own} {
			o := &v1alpha1.AgentConfig{ObjectMeta: metav1.ObjectMeta{Name: name}}
			if err := yaml.UnmarshalStrict([]byte(spec), &o.Spec); err != nil {
				t.Fatal(err)
			}
			configs = append(configs, o)
		}
		if got, _ := NewBuilder("n1").buildConfig(configs); got.EgressSNAT != c.want {
			t.Errorf("%s and %s of the node: %+v, want %+v", c.all, c.own, got.EgressSNAT, c.want)
		}
	}
}

// A range that is understood prints as it means; one that is not says why, and
// the way out.
func FuzzParsePortRange(f *testing.F) {
	for _, s := range []string{"", "-", "1-65535", "0-5", "60999-32768", "80", "80-80", "1-65536", "+1-2", "1 - 2", "1-2-3", "٣-٤"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, reason, hint := ParsePortRange(s)
		if reason != "" {
			if hint == "" || r != (world.PortRange{}) {
				t.Errorf("%q: %s, hint %q, range %s", s, reason, hint, r)
			}
			return
		}
		if r.Low == 0 || r.High < r.Low || hint != "" {
			t.Errorf("%q is taken for %s, hint %q", s, r, hint)
		}
		if again, reason, _ := ParsePortRange(r.String()); reason != "" || again != r {
			t.Errorf("%q means %s, which means %s (%s)", s, r, again, reason)
		}
		if strings.ContainsAny(s, "+ ") {
			t.Errorf("%q is no range", s)
		}
	})
}
