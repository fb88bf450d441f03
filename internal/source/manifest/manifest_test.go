package manifest

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fairlead.dev/fairlead/api/v1alpha1"
)

var seeds = []string{
	"", "---\n---\n", "# a comment\n", "\x00", "a: [", "- 1\n- 2\n", "null", "5", "{}", "kind: AgentConfig\n",
	"apiVersion: fairlead.dev/v1alpha1\nkind: AgentConfig\nmetadata: {name: default}\nspec: {nodeSNATRandomizePorts: true}\n",
	"apiVersion: fairlead.dev/v1alpha1\nkind: AgentConfig\nmetadata: {name: default}\nspec: {nodeSNATRandomizePorts: yes please, more: 1}\n",
	"apiVersion: fairlead.dev/v1alpha1\nkind: AgentConfig\nspec: {overlay: {vni: [1]}}\n---\nkind: 5\n",
	"a: &a [*a]\n", "a: &a {b: 1}\nc: {<<: *a}\n", "{\"apiVersion\": \"v1\", \"kind\": \"Node\"}", "a: 1\na: 2\n",
}

// Whatever is in a file, it is read the same way twice, and every document of it
// is an object or a problem that says what to do.
func FuzzParseAndDecode(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		docs, problems := Parse("f.yaml", file)
		for _, p := range problems {
			if p.Object == "" || p.Reason == "" || p.Source != "f.yaml" || strings.Contains(p.Reason, "\n") {
				t.Errorf("%#v", p)
			}
		}
		again, _ := Parse("f.yaml", file)
		if len(docs) != len(again) {
			t.Errorf("%d documents, then %d", len(docs), len(again))
		}
		for _, d := range docs {
			if d.Kind == "" || d.APIVersion == "" {
				t.Errorf("%#v is no object", d)
			}
			for _, p := range d.Decode(&v1alpha1.AgentConfig{}) {
				if p.Object == "" || p.Reason == "" {
					t.Errorf("%#v", p)
				}
			}
		}
	})
}

// thing is what the documents of these tests are.
type (
	thing struct {
		APIVersion string            `json:"apiVersion"`
		Kind       string            `json:"kind"`
		Metadata   map[string]string `json:"metadata"`
		Spec       spec              `json:"spec"`
	}
	spec struct {
		Flag  *bool           `json:"flag"`
		Text  *string         `json:"text"`
		Flags map[string]bool `json:"flags"`
		Inner *inner          `json:"inner"`
		Many  []inner         `json:"many"`
	}
	inner struct {
		Number *int     `json:"number"`
		List   []string `json:"list"`
	}
)

// A mistake is told with its place, and takes nothing else with it.
func TestMistakesAreTold(t *testing.T) {
	const head = "apiVersion: v1\nkind: Thing\nmetadata: {name: a}\nspec:\n  text: beside\n"
	for _, tt := range []struct {
		name, spec string
		want       []string
	}{
		{"nothing", "", nil},
		{"unknown key", "  mistake: 1\n", []string{
			"f.yaml: Thing a: spec.mistake: is not a field of Thing (fields there are flag, flags, inner, many, text)",
		}},
		{"unknown key below", "  inner: {numbers: 1}\n", []string{
			"f.yaml: Thing a: spec.inner.numbers: is not a field of Thing (fields there are list, number)",
		}},
		{"unknown key of the object", "specs: {}\n", []string{
			"f.yaml: Thing a: specs: is not a field of Thing (fields there are apiVersion, kind, metadata, spec)",
		}},
		{"wrong type", "  flag: please\n", []string{"f.yaml: Thing a: spec.flag: is a string (write true or false)"}},
		{"wrong type below", "  inner: {number: x}\n", []string{"f.yaml: Thing a: spec.inner.number: is a string (write a whole number)"}},
		{"wrong type in a list", "  inner: {list: [a, 5]}\n", []string{"f.yaml: Thing a: spec.inner.list: is a number (write a string)"}},
		{"wrong type in a list of parts", "  many: [{number: 5}, {number: x, list: [a]}]\n", []string{
			"f.yaml: Thing a: spec.many.number: is a string (write a whole number)",
		}},
		{"wrong type in a map", "  flags: {a: true, b: 5}\n", []string{"f.yaml: Thing a: spec.flags: is a number (write true or false)"}},
		{"no whole number", "  inner: {number: 1.5}\n", []string{"f.yaml: Thing a: spec.inner.number: is a number (write a whole number)"}},
		{"wrong type of a whole part", "  inner: 5\n", []string{"f.yaml: Thing a: spec.inner: is a number (write an object)"}},
		{"two wrong types and an unknown key", "  flag: please\n  mistake: 1\n  inner: {number: x}\n", []string{
			"f.yaml: Thing a: spec.flag: is a string (write true or false)",
			"f.yaml: Thing a: spec.inner.number: is a string (write a whole number)",
			"f.yaml: Thing a: spec.mistake: is not a field of Thing (fields there are flag, flags, inner, many, text)",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			docs, problems := Parse("f.yaml", []byte(head+tt.spec))
			if len(docs) != 1 || len(problems) != 0 {
				t.Fatalf("%d documents, %v", len(docs), problems)
			}
			var k thing
			var got []string
			for _, p := range docs[0].Decode(&k) {
				got = append(got, p.String())
			}
			slices.Sort(got)
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if k.Spec.Text == nil || *k.Spec.Text != "beside" {
				t.Error("the field beside the mistake is lost")
			}
			if k.Spec.Flag != nil || k.Spec.Inner != nil && k.Spec.Inner.Number != nil {
				t.Error("a value of the wrong type counts as false, or as 0")
			}
		})
	}
}

func TestFilesAreSplitIntoObjects(t *testing.T) {
	for _, tt := range []struct{ name, file, want, problems string }{
		{"nothing", "", "", ""},
		{"comments", "# only\n---\n# these\n", "", ""},
		{"two", "apiVersion: v1\nkind: A\nmetadata: {name: x}\n---\napiVersion: v1\nkind: B\nmetadata: {namespace: prod, name: b}\n", "A x, B prod/b", ""},
		{"JSON", `{"apiVersion": "v1", "kind": "A", "metadata": {"name": "x"}}`, "A x", ""},
		{"a broken one between", "apiVersion: v1\nkind: A\nmetadata: {name: x}\n---\na: [\n---\napiVersion: v1\nkind: B\nmetadata: {name: b}\n", "A x, B b",
			"f.yaml: document 2: is not YAML: yaml: line 1: did not find expected node content (correct it at the line named)"},
		{"a key twice", "apiVersion: v1\nkind: A\nkind: B\n", "",
			"f.yaml: document 1: is not YAML: yaml: unmarshal errors: line 3: key \"kind\" already set in map (correct it at the line named)"},
		{"no kind", "apiVersion: v1\n", "", "f.yaml: document 1: has no apiVersion or no kind (begin with apiVersion and kind)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			docs, problems := Parse("f.yaml", []byte(tt.file))
			var names, said []string
			for _, d := range docs {
				names = append(names, d.Object())
			}
			for _, p := range problems {
				said = append(said, p.String())
			}
			if got := strings.Join(names, ", "); got != tt.want {
				t.Errorf("objects %q, want %q", got, tt.want)
			}
			if got := strings.Join(said, "; "); got != tt.problems {
				t.Errorf("problems %q, want %q", got, tt.problems)
			}
		})
	}
}
