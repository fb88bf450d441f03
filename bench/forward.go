package main

import (
	"fmt"
	"time"

	"fairlead.dev/fairlead/bench/internal/traffic"
)

// A row is one thing that is measured on every system.
type row struct {
	name    string
	measure traffic.Measure
	to      int // the pod at the far end
	family  int
	unit    unit
}

// A unit prints a rate.
type unit func(rate float64) string

func gigabits(bytes float64) string { return fmt.Sprintf("%.2f Gbit/s", bytes*8/1e9) }
func perSecond(n float64) string    { return fmt.Sprintf("%.0f/s", n) }

var rows = func() (out []row) {
	for to, where := range []string{1: "one node", 2: "two nodes"} {
		if to == 0 {
			continue
		}
		for family, version := range []string{"IPv4", "IPv6"} {
			at := where + " " + version + " "
			out = append(out,
				row{at + "stream", traffic.Stream, to, family, gigabits},
				row{at + "request/response", traffic.RoundTrips, to, family, perSecond},
				row{at + "connections", traffic.Connections, to, family, perSecond})
		}
	}
	return out
}()

// A rowResult is what came out of one row.
type rowResult struct {
	Name      string      `json:"name"`
	Fairlead  float64     `json:"fairlead"` // median rate, bytes or times per second
	Forward   float64     `json:"conntrack"`
	Bare      float64     `json:"bare"`
	ToForward estimate    `json:"ratioToConntrack"`
	ToBare    estimate    `json:"ratioToBare"`
	Met       bool        `json:"met"`
	Rates     [][]float64 `json:"rates"` // by system, round by round

	unit unit
}

// forwardGoal is the ratio to forwarding with conntrack that counts as keeping up.
const forwardGoal = 0.95

// measureForwarding measures every chosen row on three systems, in rounds: the
// systems one right after the other, each round beginning with another one, so
// that whatever else the machine does meets all three alike.
func (b *bench) measureForwarding() []rowResult {
	var chosen []row
	for _, r := range rows {
		if b.chosen(r.name) {
			chosen = append(chosen, r)
		}
	}
	if len(chosen) == 0 {
		return nil
	}
	systems := []*system{fairlead(b), byHand(b, "conntrack", established), byHand(b, "bare", nil)}
	for _, s := range systems {
		if err := warm(s); err != nil {
			b.Fatalf("%v", err)
		}
	}
	rates := make([][][]float64, len(chosen))
	for i := range rates {
		rates[i] = make([][]float64, len(systems))
	}
	for round := range b.rounds {
		b.progress("forwarding: round %d of %d", round+1, b.rounds)
		for i, r := range chosen {
			for turn := range systems {
				s := (round + turn) % len(systems)
				rates[i][s] = append(rates[i][s], b.rate(r, systems[s], round))
			}
		}
	}
	var out []rowResult
	for i, r := range chosen {
		out = append(out, summary(r, rates[i]))
	}
	return out
}

func (b *bench) rate(r row, s *system, round int) float64 {
	p := s.path(r.to, r.family)
	p.CPU = round // the CPUs take turns
	rate, err := r.measure(p, b.each)
	if err != nil {
		b.Fatalf("%s on %s: %v", r.name, s.name, err)
	}
	return rate
}

func summary(r row, rates [][]float64) rowResult {
	out := rowResult{Name: r.name, Rates: rates, unit: r.unit,
		ToForward: estimateOf(ratios(rates[0], rates[1])), ToBare: estimateOf(ratios(rates[0], rates[2])),
		Fairlead: estimateOf(rates[0]).Median, Forward: estimateOf(rates[1]).Median, Bare: estimateOf(rates[2]).Median}
	out.Met = out.ToForward.Median >= forwardGoal || out.ToForward.High >= forwardGoal
	return out
}

// warm opens every path once: what happens only the first time is not measured.
func warm(s *system) error {
	for to := 1; to < len(s.pods); to++ {
		for family := range s.pods[to].addresses {
			if _, err := traffic.RoundTrips(s.path(to, family), time.Millisecond); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	return nil
}
