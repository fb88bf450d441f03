package build

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var required = regexp.MustCompile(`(?m)^\s*(?:require )?(\S+\.\S+/\S+) (v\S+)`)

// A module that two programs need in two versions is compiled twice, with all that
// imports it: Kubernetes' client alone takes minutes of a cold make e2e. What goes
// into Fairlead and is needed elsewhere has one version everywhere; only
// Kubernetes itself brings its own.
func TestModulesAreCompiledOnce(t *testing.T) {
	read := func(dir string) map[string]string {
		b, err := os.ReadFile(filepath.Join("../..", dir, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, m := range required.FindAllStringSubmatch(string(b), -1) {
			out[m[1]] = m[2]
		}
		if len(out) < 10 {
			t.Fatalf("%s/go.mod requires only %v", dir, out)
		}
		return out
	}
	ours := read(".")
	for _, dir := range []string{"e2e", "e2e/coredns", "tools/chart"} {
		for module, version := range read(dir) {
			if want := ours[module]; want != "" && want != version && !strings.HasPrefix(module, "fairlead.dev/") {
				t.Errorf("%s requires %s %s, and Fairlead %s: go get -C %s %s@%s", dir, module, version, want, dir, module, want)
			}
		}
	}
}
