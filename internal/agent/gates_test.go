package agent

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/netnstest"
)

// filters is how many of the wires have a gate that is a filter of tc.
func (n *node) filters(wires []string) (count int) {
	for _, w := range wires {
		count += strings.Count(n.host.Run("tc", "filter", "show", "dev", w, "ingress"), "direct-action")
	}
	return count
}

// A new wire's gate begins as a filter of tc, and goes to tcx a few at a time: also
// when the agent that made it is gone. Nothing of that is a repair, or a difference.
func TestGatesSettleAFewAtATime(t *testing.T) {
	n := newNode(t, nodes)
	var wires []string
	const pods = settledAtOnce + 1
	for i := range pods {
		wires = append(wires, feature.Wire(n.attach(t, fmt.Sprint("p", i), netnstest.New(t))))
	}
	n.mustTurn(t)
	for i, want := range []int{pods, pods - settledAtOnce, 0, 0} {
		if got := n.filters(wires); got != want {
			t.Errorf("%d filters when it has looked %d times, want %d", got, i, want)
		}
		n.host.Do(func() error {
			if n.peek() {
				t.Error("something is not as it should be")
			}
			return nil
		})
		if i == 0 {
			n.restart(t)
			n.mustTurn(t)
		}
		if d := n.diffText(t); d != "" {
			t.Errorf("differs:\n%s", d)
		}
	}
	if n.repaired != 0 {
		t.Errorf("%d repairs", n.repaired)
	}
}

// Pods that go before their gates are settled are not waited for, and a wire whose gate
// is made again waits once: what waits is no more than there are wires.
func TestNobodyWaitsForGatesOfWiresThatAreGone(t *testing.T) {
	n := newNode(t, nodes)
	stays := netnstest.New(t)
	want := []string{feature.Wire(n.attach(t, "stays", stays))}
	n.mustTurn(t)
	n.book.Detach("stays@eth0")
	n.attach(t, "stays", stays) // with another address
	n.mustTurn(t)
	for i := range 3 {
		name := fmt.Sprint("p", i)
		n.attach(t, name, netnstest.New(t))
		n.mustTurn(t)
		n.book.Detach(name + "@eth0")
		n.mustTurn(t)
	}
	if !slices.Equal(n.young, want) {
		t.Errorf("%v wait, want %v", n.young, want)
	}
}

// The loop does that by itself.
func TestTheLoopSettlesGates(t *testing.T) {
	n := newNode(t, nodes)
	wires := []string{feature.Wire(n.attach(t, "p", netnstest.New(t)))}
	n.mustTurn(t)
	n.start(t)
	for deadline := time.Now().Add(30 * time.Second); n.filters(wires) > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the gate is a filter still")
		}
	}
}
