package agent

import (
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/world"
)

// A scrape of metrics tells what the last turn counted, and decides nothing itself:
// it does not need the world.
func TestAScrapeDecidesNothing(t *testing.T) {
	n := newNode(t, nodes)
	n.write(t, "npl.yaml", documents(podObject("a", "10.244.1.9", ""), service("a", "a", "9000", "TCP")))
	n.mustTurn(t)
	counted := n.snapshot.Load().Rendered.Results
	n.snapshot.Store(&Snapshot{World: &world.World{Node: &world.Node{}}, Rendered: feature.Rendered{Results: counted, Allocations: &world.Parts{}}})
	text := n.metricsText()
	for _, want := range []string{`{state="allocated"} 1`, `{state="waiting"} 0`, `{state="overLimit"} 0`, `{state="free"} 1000`} {
		if !strings.Contains(text, "fairlead_nodeportlocal_ports"+want) {
			t.Errorf("%s is not told", want)
		}
	}
}
