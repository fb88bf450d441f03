package fairlead

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/feature/all"
	"fairlead.dev/fairlead/internal/lab/plan"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/source/dir"
	"fairlead.dev/fairlead/internal/world"
)

// cluster stands behind every example that brings no Node of its own.
const cluster = `
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.244.1.0/24]}
status: {addresses: [{type: InternalIP, address: 192.168.100.1}]}
---
apiVersion: v1
kind: Node
metadata: {name: n2}
spec: {podCIDRs: [10.244.2.0/24]}
status: {addresses: [{type: InternalIP, address: 192.168.100.2}]}
`

var fence = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")

// Every example in a feature's page is right: manifests are read without a
// problem, and what the page says they lead to is what they lead to.
func TestDocumentedExamples(t *testing.T) {
	pages, err := filepath.Glob("docs/features/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	for _, page := range pages {
		t.Run(filepath.Base(page), func(t *testing.T) {
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			var rendered string
			examples := 0
			for _, block := range fence.FindAllStringSubmatch(string(text), -1) {
				switch language, body := block[1], block[2]; language {
				case "yaml":
					rendered = render(t, body)
					examples++
				case "nft", "sh":
					contains(t, rendered, body)
				case "json":
					if !json.Valid([]byte(body)) {
						t.Errorf("no JSON:\n%s", body)
					}
				}
			}
			if examples == 0 {
				t.Error("the page has no example")
			}
		})
	}
}

// render renders an example for its Node, or for n1 of the usual cluster.
func render(t *testing.T, manifests string) string {
	t.Helper()
	if !strings.Contains(manifests, "kind: Node\n") {
		manifests += "---\n" + cluster
	}
	file := filepath.Join(t.TempDir(), "example.yaml")
	if err := os.WriteFile(file, []byte(manifests), 0o644); err != nil {
		t.Fatal(err)
	}
	objects, err := dir.New(file).Read()
	if err != nil {
		t.Fatal(err)
	}
	b := source.NewBuilder("n1", feature.Switches(all.Features)...)
	in := source.Inputs{Objects: objects, Attachments: &world.Attachments{}, Kernel: &world.Kernel{}}
	w, _ := b.Build(in)
	if w.Node == nil {
		t.Fatalf("no Node n1 in:\n%s", manifests)
	}
	in.Kernel = source.PlainKernel(w.Node)
	w, problems := b.Build(in)
	r := feature.NewRenderer(all.Features).Render(w)
	for _, p := range append(problems, r.Problems...) {
		t.Errorf("an example has a problem: %s", p)
	}
	return r.State.NFT() + r.State.IP()
}

// What pages tell a reader to type is shell.
func TestDocumentedShellParses(t *testing.T) {
	var pages []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/features/*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, found...)
	}
	blocks := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range fence.FindAllStringSubmatch(string(text), -1) {
			if block[1] != "sh" {
				continue
			}
			blocks++
			parse := exec.Command("sh", "-n")
			parse.Stdin = strings.NewReader(block[2])
			if said, err := parse.CombinedOutput(); err != nil {
				t.Errorf("%s: %s\n%s", page, said, block[2])
			}
		}
	}
	if blocks == 0 {
		t.Error("no page has any")
	}
}

// The lab.yaml in the lab's page can be built.
func TestDocumentedLab(t *testing.T) {
	text, err := os.ReadFile("docs/lab.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, block := range fence.FindAllStringSubmatch(string(text), -1) {
		if block[1] == "yaml" {
			found++
			_, problems := plan.Parse("docs/lab.md", []byte(block[2]))
			for _, p := range problems {
				t.Error(p)
			}
		}
	}
	if found == 0 {
		t.Error("the page has no lab.yaml")
	}
}

func contains(t *testing.T, rendered, body string) {
	t.Helper()
	for line := range strings.Lines(body) {
		if line = strings.TrimSpace(line); line != "" && !strings.Contains(rendered, line) {
			t.Errorf("the example does not lead to %q but to\n%s", line, rendered)
		}
	}
}

// A decision is known by its number, which its first line says too.
func TestEachDecisionHasItsNumber(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("docs/decisions/*.md")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	of := map[int]string{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		var named, says int
		if _, err := fmt.Sscanf(filepath.Base(f), "%04d-", &named); err != nil {
			t.Errorf("%s: %v", f, err)
		}
		if _, err := fmt.Sscanf(string(text), "# %d. ", &says); err != nil || says != named {
			t.Errorf("%s begins with %.20q", f, text)
		}
		if other, taken := of[named]; taken {
			t.Errorf("%s and %s have one number", other, f)
		}
		of[named] = f
	}
}
