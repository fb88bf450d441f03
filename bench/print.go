package main

import (
	"fmt"
	"io"
	"text/tabwriter"
)

func (r report) print(w io.Writer) error {
	fmt.Fprintf(w, "%s, Linux %s, %d CPUs, TCP %s, %d rounds of %s\n", r.Date.Format("2006-01-02"), r.Kernel, r.CPUs, r.Congestion, r.Rounds, r.Each)
	for _, c := range r.Contests {
		if err := printContest(w, c); err != nil {
			return err
		}
	}
	if len(r.Reuse) > 0 {
		if err := printReuse(w, r.Reuse); err != nil {
			return err
		}
	}
	if err := printClosing(w, r.Closing); err != nil {
		return err
	}
	if len(r.Stranger) > 0 {
		if err := printStranger(w, r.Stranger); err != nil {
			return err
		}
	}
	if len(r.Plugin) > 0 {
		if err := printPlugin(w, r.Plugin); err != nil {
			return err
		}
	}
	if len(r.Attach) > 0 {
		if err := printAttach(w, r.Attach); err != nil {
			return err
		}
	}
	if len(r.Mappings) > 0 {
		if err := printMappings(w, r.Mappings); err != nil {
			return err
		}
	}
	if len(r.Changed) > 0 {
		if err := printChanged(w, r.Changed); err != nil {
			return err
		}
	}
	if r.Label != nil {
		if err := printLabel(w, r.Label); err != nil {
			return err
		}
	}
	if len(r.Scale) > 0 {
		return printScale(w, r.Scale)
	}
	return nil
}

func printReuse(w io.Writer, results []reuseResult) error {
	fmt.Fprintf(w, "\nFast reuse: %d pods connect %d times from port %d, the server closes first\n", reusePods, results[0].Connections, reusePort)
	t := newTable(w)
	t.line("TIME_WAIT", "ports", "reused", "95 %", "to plain", "95 %", fmt.Sprintf("goal %.2f", reuseAtMost),
		"SYNs reused", "SYNs sent again", "95 %", fmt.Sprintf("over %s", slowConnect), "failed")
	for _, u := range results {
		t.line(u.Timeout+" s", u.Name, percent(u.Accepted.Median), percent(u.Accepted.Low)+"-"+percent(u.Accepted.High),
			ratio(u.ToPlain.Median), interval(u.ToPlain), u.Goal, percent(u.Asked.Median),
			fmt.Sprint(u.Retransmits.Median), fmt.Sprintf("%v-%v", u.Retransmits.Low, u.Retransmits.High),
			fmt.Sprint(u.Slow.Median), fmt.Sprint(u.Failed.Median))
	}
	return t.Flush()
}

func percent(share float64) string { return fmt.Sprintf("%.1f%%", share*100) }

// A table is columns side by side.
type table struct{ *tabwriter.Writer }

func newTable(w io.Writer) table { return table{tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)} }

func (t table) line(cells ...string) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(t, "\t")
		}
		fmt.Fprint(t, c)
	}
	fmt.Fprintln(t)
}

func ratio(r float64) string { return fmt.Sprintf("%.2f", r) }

func interval(e estimate) string { return fmt.Sprintf("%.2f-%.2f", e.Low, e.High) }

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "missed"
}
