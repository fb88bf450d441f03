// Package fairlead holds no code: its tests keep the shape of the tree.
package fairlead

import (
	"bytes"
	"encoding/json"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/feature/all"
)

const module = "fairlead.dev/fairlead"

// A pkg is one package as go list knows it.
type pkg struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	Imports    []string
	Deps       []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports,Deps", "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var p pkg
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		p.ImportPath = strings.TrimPrefix(p.ImportPath, module+"/")
		all = append(all, p)
	}
	return all
}

// lists and quotes are as good as the standard library's: everybody may have them.
var everybodys = []string{"internal/sorted", "internal/quote"}

// A rule says who may not depend on what, directly or through others.
type rule struct {
	who, not string // path.Match patterns of import paths, ours without the module
	except   []string
	reason   string
}

var rules = []rule{
	{"internal/world", "internal/*", nil, "the world is what everything else speaks of; it stands on the standard library, on lists and quotes"},
	{"internal/world", "k8s.io/*", nil, "inside, no object of an API is left"},
	{"internal/datapath*", "internal/world", nil, "the datapath takes values; what they mean is the features' affair"},
	{"internal/datapath*", "k8s.io/*", nil, "the kernel knows no Kubernetes"},
	{"internal/feature/*", "internal/feature/", []string{"internal/feature/all"}, "features never import each other"},
	{"internal/feature*", "k8s.io/*", nil, "a feature sees the world, not objects"},
	{"internal/feature*", "internal/source*", nil, "a feature sees the world, not where it comes from"},
	{"internal/feature*", "internal/agent", nil, "a feature is a function, and what runs of it sees the agent as a Host"},
	{"internal/feature*", "internal/cni", nil, "a feature is a function, and what runs of it sees the agent as a Host"},
	{"internal/doctor", "internal/feature*", nil, "the doctor reads features through their checks"},
	{"internal/cni", "k8s.io/*", nil, "the plugin starts for every pod and must stay thin"},
	{"*", "k8s.io/client-go/kubernetes", nil, "it knows every kind there is, and its start costs each call of the plugin milliseconds"},
	{"internal/netns", "internal/*", nil, "namespaces are below everything"},
	{"api*", "internal/*", nil, "the API is for others to import"},
}

func matches(pattern, path string) bool {
	if prefix, wild := strings.CutSuffix(pattern, "*"); wild {
		return strings.HasPrefix(path, prefix)
	}
	return path == pattern || strings.HasSuffix(pattern, "/") && strings.HasPrefix(path, pattern)
}

func TestImports(t *testing.T) {
	for _, p := range packages(t) {
		for _, r := range rules {
			if !matches(r.who, p.ImportPath) || slices.Contains(r.except, p.ImportPath) {
				continue
			}
			for _, dep := range p.Deps {
				dep, ours := strings.CutPrefix(dep, module+"/")
				if matches(r.not, dep) && !slices.Contains(everybodys, dep) && dep != p.ImportPath && (ours || strings.Contains(dep, ".")) {
					t.Errorf("%s depends on %s: %s", p.ImportPath, dep, r.reason)
				}
			}
		}
	}
}

// kubernetes are the only packages that import k8s.io themselves.
var kubernetes = []string{
	"api/v1alpha1",               // the kinds
	"internal/kube",              // connects to an API server
	"internal/source",            // reads objects
	"internal/source/kube",       // watches them
	"internal/source/dir",        // decodes them
	"internal/source/manifest",   // splits them
	"internal/events",            // has events as the API has them
	"internal/report",            // puts what an agent found out into the words of the API
	"internal/status",            // writes it, to files or to an API server
	"internal/controller",        // writes what needs one writer
	"internal/lab",               // stands in for the API server and the kubelets
	"internal/netnstest/cluster", // writes the Nodes of tests and benchmarks
}

func TestOnlyTheDoorsImportKubernetes(t *testing.T) {
	for _, p := range packages(t) {
		for _, dep := range p.Imports {
			if strings.HasPrefix(dep, "k8s.io/") && !slices.Contains(kubernetes, p.ImportPath) {
				t.Errorf("%s imports %s", p.ImportPath, dep)
			}
		}
	}
}

func TestEveryPackageSaysOnceWhatItIs(t *testing.T) {
	for _, p := range packages(t) {
		var docs []string
		for _, f := range p.GoFiles {
			parsed, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, f), nil, parser.ParseComments|parser.PackageClauseOnly)
			if err != nil {
				t.Fatal(err)
			}
			if parsed.Doc != nil {
				docs = append(docs, f)
			}
		}
		if len(docs) != 1 && len(p.GoFiles) > 0 {
			t.Errorf("%s has %d package comments %v, want one", p.ImportPath, len(docs), docs)
		}
	}
}

// outside are the packages that put into words what tenants, peers and the kernel
// say. What people write on a command line they see there anyway.
var outside = regexp.MustCompile(`^(internal/(agent|allocations|cni|controller|events|feature.*|flows|kube|pressure|reach|report|reserve|source.*|status|world))$`)

// %q and %#v quote whatever is there, however long it is; package quote does not.
func TestWhatComesFromOutsideIsQuotedShort(t *testing.T) {
	verbs := regexp.MustCompile(`"[^"\n]*%(q|#v)|strconv\.Quote\(`)
	for _, p := range packages(t) {
		if !outside.MatchString(p.ImportPath) {
			continue
		}
		for _, f := range p.GoFiles {
			content, err := os.ReadFile(filepath.Join(p.Dir, f))
			if err != nil {
				t.Fatal(err)
			}
			if found := verbs.Find(content); found != nil {
				t.Errorf("%s/%s has %s: use quote.Of", p.ImportPath, f, found)
			}
		}
	}
}

// generated files are nobody's to read.
var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

func TestFilesAreShort(t *testing.T) {
	for _, p := range packages(t) {
		files, err := filepath.Glob(filepath.Join(p.Dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			content, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			if generated.Match(content) {
				continue
			}
			if n := bytes.Count(content, []byte("\n")); n > 400 {
				t.Errorf("%s has %d lines: can it be two things with two names?", f, n)
			}
		}
	}
}

// A feature is always the same folder.
func TestEveryFeatureHasItsFilesScenariosAndPage(t *testing.T) {
	dirs, err := filepath.Glob("internal/feature/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		name := filepath.Base(dir)
		if info, err := os.Stat(dir); err != nil || !info.IsDir() || name == "all" || name == "testdata" {
			continue
		}
		for _, want := range []string{dir + "/" + name + ".go", dir + "/" + name + "_test.go", "docs/features/" + name + ".md"} {
			if _, err := os.Stat(want); err != nil {
				t.Errorf("feature %s: %v", name, err)
			}
		}
		if scenarios, _ := filepath.Glob(dir + "/testdata/*.txtar"); len(scenarios) == 0 {
			t.Errorf("feature %s has no scenario", name)
		}
	}
}

// nameless are the packages that know no feature by name: what is asked of one goes
// through what package feature says it has.
var nameless = []string{"internal/agent", "internal/allocations", "internal/events", "internal/flows", "internal/report", "internal/settings", "internal/doctor", "internal/lab", "internal/lab/", "internal/status", "internal/controller", "internal/cni", "internal/cli",
	"internal/source", "internal/source/", "internal/scenario", "internal/dump", "internal/view", "internal/kube", "internal/netnstest", "internal/netnstest/", "cmd/"}

func TestNobodyKnowsAFeatureByName(t *testing.T) {
	var names []string
	for _, f := range all.Features {
		if !slices.Contains([]string{"pod", "tcp", "forward", "egress"}, f.Name) { // which are words of everybody's too
			names = append(names, f.Name)
		}
	}
	quoted := regexp.MustCompile(`"(` + strings.Join(names, "|") + `)"`)
	for _, p := range packages(t) {
		if !slices.ContainsFunc(nameless, func(n string) bool { return matches(n, p.ImportPath) }) {
			continue
		}
		for _, dep := range p.Imports {
			if rest, is := strings.CutPrefix(dep, module+"/internal/feature/"); is && rest != "all" {
				t.Errorf("%s imports the feature %s", p.ImportPath, rest)
			}
		}
		for _, f := range p.GoFiles {
			text, err := os.ReadFile(filepath.Join(p.Dir, f))
			if err != nil {
				t.Fatal(err)
			}
			if found := quoted.Find(text); found != nil {
				t.Errorf("%s/%s names the feature %s", p.ImportPath, f, found)
			}
		}
	}
}

// What an AgentConfig's schema says can be switched off is what can be. That is written
// by hand: the API is for others to import, and knows nothing of what is inside.
func TestTheSchemaHasTheNamesOfFeatures(t *testing.T) {
	var names, network []string
	for _, s := range feature.Switches(all.Features) {
		if names = append(names, s.Name); s.PodNetwork {
			network = append(network, s.Name)
		}
	}
	if len(names) != len(all.Features)-1 { // see feature tcp
		t.Errorf("of %d features only %v can be switched off", len(all.Features), names)
	}
	slices.Sort(network)
	for want, file := range map[string]string{
		"f in ['" + strings.Join(names, "', '") + "']":      "api/v1alpha1/types.go",
		"['" + strings.Join(network, "', '") + "'].all(f, ": "api/v1alpha1/types.go", // with overlay.mode none
		"features are " + strings.Join(names, ", "):         "deploy/crds/fairlead.dev_agentconfigs.yaml",
	} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.Join(strings.Fields(string(text)), " "), want) {
			t.Errorf("%s does not say: %s (after a change: make generate)", file, want)
		}
	}
}
