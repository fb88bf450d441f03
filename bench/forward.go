package main

import (
	"fmt"
	"io"
	"time"

	"fairlead.dev/fairlead/bench/internal/traffic"
)

// A contest is rows that are measured on several systems. The first system is
// compared with each of the others.
type contest struct {
	title   string
	rows    []row
	systems func(*bench) []*system
}

// A row is one thing that is measured on every system of a contest.
type row struct {
	name    string
	measure traffic.Measure
	to      int // the end it leads to
	family  int
	unit    unit
}

// A unit prints a rate.
type unit func(rate float64) string

func gigabits(bytes float64) string { return fmt.Sprintf("%.2f Gbit/s", bytes*8/1e9) }
func perSecond(n float64) string    { return fmt.Sprintf("%.0f/s", n) }

var contests = []contest{
	{
		title: "Pod to pod", rows: podRows(),
		systems: func(b *bench) []*system {
			return []*system{fairlead(b), flannel(b), byHand(b, "conntrack", 0.95, established), unguarded(b), byHand(b, "no rule", 0, nil)}
		},
	},
	{
		title: "Pod to outside through source NAT",
		rows: []row{
			{"SNAT IPv4 stream", traffic.Stream, outside, 0, gigabits},
			{"SNAT IPv4 connections", traffic.Connections, outside, 0, perSecond},
		},
		systems: func(b *bench) []*system {
			return []*system{fairlead(b), flannel(b), byHand(b, "masquerade", 0.95, masquerade), unguarded(b)}
		},
	},
}

func podRows() (out []row) {
	for _, place := range []struct {
		name string
		to   int
	}{{"one node", neighbour}, {"two nodes", remote}} {
		for family, version := range []string{"IPv4", "IPv6"} {
			at := place.name + " " + version + " "
			out = append(out,
				row{at + "stream", traffic.Stream, place.to, family, gigabits},
				row{at + "request/response", traffic.RoundTrips, place.to, family, perSecond},
				row{at + "connections", traffic.Connections, place.to, family, perSecond})
		}
	}
	return out
}

// A contestResult is what came out of one contest.
type contestResult struct {
	Title   string      `json:"title"`
	Systems []string    `json:"systems"`
	Rows    []rowResult `json:"rows"`
}

// A rowResult is what came out of one row.
type rowResult struct {
	Name   string      `json:"name"`
	Ratios []ratioTo   `json:"ratios"` // of the first system to each of the others
	Rates  []float64   `json:"rates"`  // medians by system, bytes or times per second
	Rounds [][]float64 `json:"rounds"` // rates by system, round by round

	unit unit
}

// A ratioTo is a ratio to one system.
type ratioTo struct {
	estimate
	Goal float64 `json:"goal,omitempty"` // what counts as keeping up
	Met  bool    `json:"met"`            // the median reaches it, or the interval does
}

// measureContests measures every chosen row of every contest.
func (b *bench) measureContests() (out []contestResult) {
	for _, c := range contests {
		var chosen []row
		for _, r := range c.rows {
			if b.chosen(r.name) {
				chosen = append(chosen, r)
			}
		}
		if len(chosen) > 0 {
			c.rows = chosen
			out = append(out, b.measureContest(c))
		}
	}
	return out
}

// measureContest goes in rounds: the systems one right after the other, each
// round beginning with another one, so that whatever else the machine does meets
// all alike.
func (b *bench) measureContest(c contest) contestResult {
	systems := c.systems(b)
	for _, r := range c.rows {
		for _, s := range systems {
			warm(b, r, s)
		}
	}
	rates := make([][][]float64, len(c.rows))
	for i := range rates {
		rates[i] = make([][]float64, len(systems))
	}
	for round := range b.rounds {
		b.progress("%s: round %d of %d", c.title, round+1, b.rounds)
		for i, r := range c.rows {
			for turn := range systems {
				s := (round + turn) % len(systems)
				rates[i][s] = append(rates[i][s], b.rate(r, systems[s], round))
			}
		}
	}
	out := contestResult{Title: c.title}
	for _, s := range systems {
		out.Systems = append(out.Systems, s.name)
	}
	for i, r := range c.rows {
		out.Rows = append(out.Rows, summary(r, systems, rates[i]))
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

func summary(r row, systems []*system, rates [][]float64) rowResult {
	out := rowResult{Name: r.name, Rounds: rates, unit: r.unit}
	for i, s := range systems {
		out.Rates = append(out.Rates, estimateOf(rates[i]).Median)
		if i > 0 {
			e := estimateOf(ratios(rates[0], rates[i]))
			out.Ratios = append(out.Ratios, ratioTo{e, s.goal, e.Median >= s.goal || e.High >= s.goal})
		}
	}
	return out
}

// warm opens a path once: what happens only the first time is not measured.
func warm(b *bench, r row, s *system) {
	if _, err := traffic.RoundTrips(s.path(r.to, r.family), time.Millisecond); err != nil {
		b.Fatalf("%s on %s: %v", r.name, s.name, err)
	}
}

func printContest(w io.Writer, c contestResult) error {
	fmt.Fprintf(w, "\n%s: %s as a ratio to the others\n", c.Title, c.Systems[0])
	t, head := newTable(w), []string{""}
	for i, to := range c.Rows[0].Ratios {
		head = append(head, "to "+c.Systems[i+1], "95 %")
		if to.Goal > 0 {
			head = append(head, fmt.Sprintf("goal %.2f", to.Goal))
		}
	}
	t.line(head...)
	for _, r := range c.Rows {
		cells := []string{r.Name}
		for _, to := range r.Ratios {
			cells = append(cells, ratio(to.Median), interval(to.estimate))
			if to.Goal > 0 {
				cells = append(cells, verdict(to.Met))
			}
		}
		t.line(cells...)
	}
	t.line()
	t.line("the guard's price", "", "95 %")
	for _, r := range c.Rows {
		for i, to := range r.Ratios {
			if c.Systems[i+1] == noGuard {
				t.line(r.Name, percent(1-to.Median), percent(1-to.High)+" to "+percent(1-to.Low))
			}
		}
	}
	t.line()
	t.line(append([]string{"per CPU"}, c.Systems...)...)
	for _, r := range c.Rows {
		cells := []string{r.Name}
		for _, rate := range r.Rates {
			cells = append(cells, r.unit(rate))
		}
		t.line(cells...)
	}
	return t.Flush()
}
