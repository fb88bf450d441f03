package snat

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"fairlead.dev/fairlead/internal/pressure"
	"fairlead.dev/fairlead/internal/view"
)

func newView() view.Answer {
	return &view.Table[Shown]{
		Header: []string{"NODE", "PORTS", "RANGE", "RANDOM", "BLOCKS", "CONNECTIONS", "INSERT FAILED", "DROPPED"},
		None:   "no source NAT: the agent is not ready, or the feature is switched off",
		Name:   func(s Shown) string { return s.Node },
		Cells: func(s Shown) []string {
			random := view.Yes(s.Randomized)
			if s.Wanted && !s.Randomized {
				random = "MISSING"
			}
			cells := []string{s.Node, s.Choice, s.Range, random, blocksOf(s)}
			if s.At.IsZero() { // nobody read the counters
				return append(cells, "-", "-", "-")
			}
			return append(cells, fmt.Sprintf("%d of %d", s.Conntrack.Entries, s.Conntrack.Max), fmt.Sprint(s.Conntrack.InsertFailed), fmt.Sprint(s.Conntrack.Drop))
		}}
}

// printWide prints all that is known of how full the ports are.
func printWide(w io.Writer, a view.Answer) error {
	for _, row := range a.Rows().List {
		if err := printPressure(w, row.Item.(Shown).Status); err != nil {
			return err
		}
	}
	return nil
}

func printPressure(w io.Writer, s pressure.Status) error {
	if s.At.IsZero() {
		_, err := fmt.Fprintln(w, "\nthe connection table was not read")
		return err
	}
	c, m := s.Conntrack, s.LastMinute
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "\nCOUNTER\tIN ALL\tLAST MINUTE\tPER SECOND")
	for _, row := range []struct {
		name          string
		all, inMinute uint64
	}{
		{"insert failed", c.InsertFailed, m.InsertFailed}, {"dropped", c.Drop, m.Drop}, {"dropped early", c.EarlyDrop, m.EarlyDrop},
		{"clash resolved", c.ClashResolve, m.ClashResolve}, {"search restarted", c.SearchRestart, m.SearchRestart},
	} {
		fmt.Fprintf(tw, "%s\t%d\t%d\t%.1f\n", row.name, row.all, row.inMinute, float64(row.inMinute)/60)
	}
	fmt.Fprintln(tw, "\nDESTINATION\tFROM\tPORTS\tUSED\tFILL")
	for _, f := range s.Fullest {
		fmt.Fprintf(tw, "%s\t%s\t%d-%d\t%s\t%s %3.0f %%\n", f.Target(), f.Source, f.Ports.Low, f.Ports.High, used(f), bar(f.Ratio()), 100*f.Ratio())
	}
	if len(s.Fullest) == 0 {
		fmt.Fprintln(tw, "none")
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if l := s.Listed; l.Entries < l.Of {
		fmt.Fprintf(w, "\nestimated from %d of %d entries at %s\n", l.Entries, l.Of, l.At.Local().Format(time.TimeOnly))
	}
	if err := printWaits(w, s.Waits); err != nil {
		return err
	}
	return printHistogram(w, s.Histogram)
}

// printWaits shows how new connections fared in the last minute.
func printWaits(w io.Writer, s pressure.Waits) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "\nNEW CONNECTIONS TO\tFROM\tFOLLOWED\tPORT HELD\tUNANSWERED\tWAITED")
	for _, d := range s.Worst {
		fmt.Fprintf(tw, "%s\t%s\t%d\t%d\t%d\t%.1f %%\n", d.Target(), d.Source, d.New, d.Held, d.Unanswered, 100*float64(d.Waited())/float64(d.New))
	}
	switch {
	case s.Missing != "":
		fmt.Fprintln(tw, "not seen: "+s.Missing)
	case len(s.Worst) == 0:
		fmt.Fprintln(tw, "none in the last minute")
	}
	return tw.Flush()
}

func used(f pressure.Fill) string {
	s := fmt.Sprintf("%d of %d", f.Used, f.Size)
	if f.Waiting > 0 {
		s += fmt.Sprintf(", %d closed", f.Waiting)
	}
	return s
}

// barWidth is the width of a bar, in characters.
const barWidth = 20

// bar is ratio, of one, as a bar.
func bar(ratio float64) string {
	full := min(barWidth, int(ratio*barWidth+0.5))
	return strings.Repeat("█", full) + strings.Repeat("░", barWidth-full)
}

// levels are parts of a character's height, and height is that of the histogram
// in characters.
var levels = []rune(" ▁▂▃▄▅▆▇█")

const height = 4

// printHistogram draws how much of each part of the ports is in use.
func printHistogram(w io.Writer, h *pressure.Histogram) error {
	if h == nil {
		return nil
	}
	fmt.Fprintf(w, "\nPORTS of %s, %.0f to a column\n", h.Target(), float64(h.Size)/pressure.Slices)
	for row := height - 1; row >= 0; row-- {
		fmt.Fprintf(w, "%3d %% |", 100*(row+1)/height)
		for n, used := range h.Slices {
			fmt.Fprintf(w, "%c", cell(float64(used)/float64(max(1, h.Width(n))), row))
		}
		fmt.Fprintln(w, "|")
	}
	_, err := fmt.Fprintf(w, "       %-*d%d\n", pressure.Slices-len(fmt.Sprint(h.Ports.High)), h.Ports.Low, h.Ports.High)
	return err
}

// cell is what of a column that is ratio full is in the given row from below.
func cell(ratio float64, row int) rune {
	steps := len(levels) - 1
	return levels[min(max(int(ratio*float64(height*steps)+0.5)-row*steps, 0), steps)]
}
