package report

import (
	"encoding/json"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/events"
	"fairlead.dev/fairlead/internal/world"
)

// mostReported is how many bytes a FairleadNode has at most: agents and the
// controller hold those of all nodes.
const mostReported = 48 << 10

// listProblems puts as many of the problems into a status as have room, and counts
// the others.
func listProblems(to *v1alpha1.FairleadNodeStatus, problems []world.Problem) {
	room := mostReported - sizeOf(to)
	for _, p := range events.InOrder(problems) {
		one := v1alpha1.Problem(p)
		if room -= sizeOf(one) + 1; room < 0 || len(to.Problems) == v1alpha1.MaxProblems {
			break
		}
		to.Problems = append(to.Problems, one)
	}
	to.MoreProblems = int64(len(problems) - len(to.Problems))
}

// sizeOf is how many bytes v takes in JSON.
func sizeOf(v any) int {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // v is made of strings and numbers
	}
	return len(text)
}
