package main

import (
	"fmt"
	"io"

	"fairlead.dev/fairlead/bench/internal/traffic"
)

// printClosing prints a table for each scene.
func printClosing(w io.Writer, results []closingResult) error {
	for len(results) > 0 {
		n := 1
		for n < len(results) && results[n].Scene == results[0].Scene {
			n++
		}
		if err := printScene(w, results[:n]); err != nil {
			return err
		}
		results = results[n:]
	}
	return nil
}

func printScene(w io.Writer, results []closingResult) error {
	fmt.Fprintf(w, "\nC%s; %d loops, %d rounds of %s\n", results[0].Scene[1:], closingLoops, len(results[0].Loads[0].Rates), results[0].each)
	t := newTable(w)
	both := len(results[0].Loads) > 1
	head := []string{"ports", "timestamps", "reuse"}
	if both {
		head = append(head, "node's timestamps", "load")
	}
	t.line(append(head, "connections", "to no NAT", "95 %", fmt.Sprintf("goal %.2f", closingToNoNAT), "to Flannel's", "95 %",
		fmt.Sprintf("goal %.1f", closingToOthers), "SYNs sent again", "goal 0", fmt.Sprintf("over %s", traffic.Slow), "failed", "PAWS refusals", "dropped")...)
	for _, r := range results {
		for i, l := range r.Loads {
			cells := []string{r.ports(), r.Timestamps, map[bool]string{true: "1"}[r.Reuse]}
			if both {
				cells = append(cells, r.Node, [...]string{"pods", "node"}[i])
			}
			cells = append(cells, perSecond(estimateOf(l.Rates).Median))
			var paws, dropped string
			if i == 0 {
				paws, dropped = fmt.Sprint(r.PAWS), fmt.Sprint(r.Dropped)
			}
			t.line(append(append(cells, r.verdicts(l)...), fmt.Sprint(l.Slow), fmt.Sprint(l.Failed), paws, dropped)...)
		}
	}
	return t.Flush()
}

func (k bedKind) ports() string {
	if k.AtSource > 0 {
		return fmt.Sprintf("%d at the source", k.AtSource)
	}
	if k.Forgets {
		return k.Ports + ", TIME_WAIT 1 s"
	}
	return k.Ports
}

// verdicts are the ratios of a load and its SYNs sent again, each with its goal,
// which the defaults of a new install have to reach.
func (r closingResult) verdicts(l loadResult) []string {
	var goals [3]string
	if r.Ports == portsOfNewInstall {
		goals[0] = verdict(l.ToFirst.Median >= closingToNoNAT || l.ToFirst.High >= closingToNoNAT)
		if l.ToFlannel != nil && r.contested {
			goals[1] = verdict(l.ToFlannel.Median >= closingToOthers || l.ToFlannel.High >= closingToOthers)
		}
		goals[2] = verdict(l.Retransmits == 0)
	}
	out := []string{ratio(l.ToFirst.Median), interval(l.ToFirst), goals[0], "", "", goals[1],
		fmt.Sprintf("%d (%.2f%%)", l.Retransmits, 100*float64(l.Retransmits)/float64(max(l.Connections, 1))), goals[2]}
	if l.ToFlannel != nil {
		out[3], out[4] = ratio(l.ToFlannel.Median), interval(*l.ToFlannel)
	}
	return out
}
