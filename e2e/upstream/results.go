package upstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Keep writes r into the folder, in place of what an earlier run of the same suite
// on the same kind of cluster left there.
func (r *Result) Keep(folder string) error {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	content, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	name := strings.NewReplacer(" ", "-", ",", "", "/", "-").Replace(r.Suite + " " + r.Cluster + ".json")
	return os.WriteFile(filepath.Join(folder, name), content, 0o644)
}

// Kept returns the results in the folder, by suite and cluster.
func Kept(folder string) ([]*Result, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.json"))
	if err != nil {
		return nil, err
	}
	var out []*Result
	for _, f := range files {
		content, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		r := &Result{}
		if err := json.Unmarshal(content, r); err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		out = append(out, r)
	}
	if len(out) == 0 {
		return nil, errors.New("no results in " + folder + ": run the suites first")
	}
	slices.SortFunc(out, func(a, b *Result) int { return strings.Compare(a.Suite+a.Cluster, b.Suite+b.Cluster) })
	return out, nil
}

// Markdown is the page that shows the results: a table of the suites, what failed
// and why, and every test that ran.
func Markdown(results []*Result, own []Run) string {
	var b strings.Builder
	b.WriteString("# What a real cluster says\n\nWritten by `make e2e-full`, not by hand. Fairlead is the only network of each cluster.\n\n" +
		"## Kubernetes' own tests\n\nThose of the release that the cluster runs.\n\n" +
		"| suite | cluster | run | passed | failed | took | on |\n|---|---|---:|---:|---:|---:|---|\n")
	for _, r := range results {
		n := r.Passed()
		fmt.Fprintf(&b, "| %s | %s | %d | %d | %d | %s | %s |\n", r.Suite, r.Cluster, len(r.Specs), n, len(r.Specs)-n,
			r.Took.Round(time.Second), r.When.UTC().Format(time.DateOnly))
	}
	b.WriteString("\n### What failed, and why\n\n")
	none := true
	for _, r := range results {
		for _, s := range r.Specs {
			if !s.Passed {
				none = false
				fmt.Fprintf(&b, "* %s (%s): %s\n  %s\n", r.Suite, r.Cluster, s.Name, s.Why)
			}
		}
	}
	for _, r := range own {
		if r.Outcome != "pass" {
			none = false
			fmt.Fprintf(&b, "* %s (%s): %s\n", r.Test, r.Cluster, strings.Join(r.Said, " "))
		}
	}
	if none {
		b.WriteString("Nothing.\n")
	}
	writeOwn(&b, own)
	for _, r := range results {
		fmt.Fprintf(&b, "\n## %s, %s\n\n| test | | seconds |\n|---|---|---:|\n", r.Suite, r.Cluster)
		specs := slices.Clone(r.Specs)
		slices.SortFunc(specs, func(a, b Spec) int { return strings.Compare(a.Name, b.Name) })
		for _, s := range specs {
			outcome := "passed"
			if !s.Passed {
				outcome = "**failed**"
			}
			fmt.Fprintf(&b, "| %s | %s | %.1f |\n", strings.ReplaceAll(s.Name, "|", `\|`), outcome, s.Took.Seconds())
		}
	}
	return b.String()
}

// writeOwn writes our own tests, with what they logged.
func writeOwn(b *strings.Builder, own []Run) {
	b.WriteString("\n## Our own tests\n\n| test | cluster | | seconds | figures |\n|---|---|---|---:|---|\n")
	for _, r := range own {
		outcome := map[string]string{"pass": "passed", "fail": "**failed**", "skip": "**skipped**"}[r.Outcome]
		fmt.Fprintf(b, "| %s | %s | %s | %.0f | %s |\n", strings.ReplaceAll(r.Test, "|", `\|`), r.Cluster, outcome, r.Seconds,
			strings.ReplaceAll(strings.Join(r.Said, "<br>"), "|", `\|`))
	}
}
