// Package crd generates what is made of api/v1alpha1, deep copies and CRD
// manifests, and proves that the schema and the agent's own parser refuse the
// same.
package crd

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../.."

// What is generated is what controller-gen makes of the types now.
func TestGeneratedFilesAreUpToDate(t *testing.T) {
	tool, err := exec.Command("go", "tool", "-n", "controller-gen").Output()
	if err != nil {
		t.Fatalf("build controller-gen: %v", err)
	}
	dir := t.TempDir()
	gen := exec.Command(strings.TrimSpace(string(tool)), "object", "crd", "paths=./api/...", "output:dir="+dir)
	gen.Dir = root
	if out, err := gen.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", gen, err, out)
	}
	made, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range made {
		where := filepath.Join(root, "deploy/crds", f.Name())
		if filepath.Ext(f.Name()) == ".go" {
			where = filepath.Join(root, "api/v1alpha1", f.Name())
		}
		want, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(where)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what is made of the types now: run make generate", where)
		}
	}
	there, err := filepath.Glob(filepath.Join(root, "deploy/crds/*"))
	if err != nil || len(there) != len(manifests) {
		t.Errorf("deploy/crds holds %d files, the tests know %d (%v)", len(there), len(manifests), err)
	}
}
