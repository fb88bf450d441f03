package tests

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"fairlead.dev/fairlead/e2e/build"
	"fairlead.dev/fairlead/e2e/upstream"
)

// Kubernetes' own tests. FAIRLEAD_E2E_SUITES names which, with commas: smoke (the
// default), conformance. Where FAIRLEAD_E2E_RESULTS names a folder, what
// came of them is kept there.
func TestUpstream(t *testing.T) {
	b, err := build.New(os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	programs, err := b.Program(t.Context(), build.Suite)
	if err != nil {
		t.Fatal(err)
	}
	runner := upstream.Runner{
		Binary: filepath.Join(programs, build.Suite.Name), Kubectl: filepath.Join(shared.Programs(), "kubectl"),
		Kubeconfig: shared.Kubeconfig(), Dir: t.ArtifactDir(),
		Command: func(ctx context.Context, name string, args ...string) *exec.Cmd {
			return exec.CommandContext(ctx, name, args...)
		},
	}
	names := os.Getenv("FAIRLEAD_E2E_SUITES")
	if names == "" {
		names = "smoke"
	}
	for name := range strings.SplitSeq(names, ",") {
		suite, ok := upstream.Suites[name]
		if !ok {
			t.Fatalf("FAIRLEAD_E2E_SUITES: there is no suite %q", name)
		}
		t.Run(name, func(t *testing.T) {
			result, err := runner.Run(t.Context(), suite)
			if err != nil {
				t.Fatal(err)
			}
			if result.Cluster, err = shared.Describe(t.Context()); err != nil {
				t.Fatal(err)
			}
			t.Logf("%s: %d run, %d passed", suite.Name, len(result.Specs), result.Passed())
			for _, s := range result.Specs {
				if !s.Passed {
					t.Errorf("%s: %s", s.Name, s.Why)
				}
			}
			if folder := os.Getenv("FAIRLEAD_E2E_RESULTS"); folder != "" {
				if err := result.Keep(folder); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
