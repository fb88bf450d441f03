package crd

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
)

var update = flag.Bool("update", false, "write docs/api.md")

const preface = `# Objects

Every field of Fairlead's own kinds, group ` + "`fairlead.dev/v1alpha1`" + `. All kinds are
cluster-scoped. ` + "`make generate`" + ` writes this page from the comments in api/v1alpha1.
`

// The page lists every field, in the words of the Go types.
func TestPageIsUpToDate(t *testing.T) {
	var b strings.Builder
	b.WriteString(preface)
	for _, file := range manifests {
		crd := readCRD(t, file)
		s := crd.Spec.Validation.OpenAPIV3Schema
		names := "`" + strings.Join(append([]string{crd.Spec.Names.Plural}, crd.Spec.Names.ShortNames...), "`, short `") + "`"
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\nFor kubectl: %s.\n\n| field | is | means |\n|---|---|---|\n", crd.Spec.Names.Kind, s.Description, names)
		for _, part := range []string{"spec", "status"} {
			if p, ok := s.Properties[part]; ok {
				rows(&b, part, p)
			}
		}
	}
	page := filepath.Join(root, "docs/api.md")
	if *update {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if have, err := os.ReadFile(page); err != nil || string(have) != b.String() {
		t.Errorf("%s is not what is made of the types now: run make generate (%v)", page, err)
	}
}

// rows writes the fields below the one at path. What a condition is, Kubernetes
// says.
func rows(b *strings.Builder, path string, s apiextensions.JSONSchemaProps) {
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		p, at := s.Properties[name], path+"."+name
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", at, kind(p), strings.ReplaceAll(strings.Join(strings.Fields(p.Description), " "), "|", "\\|"))
		switch {
		case name == "conditions":
		case p.Items != nil:
			rows(b, at+"[]", *p.Items.Schema)
		default:
			rows(b, at, p)
		}
	}
}

// kind is the type and the bounds of a field.
func kind(p apiextensions.JSONSchemaProps) string {
	words := []string{map[string]string{
		"boolean": "true or false", "integer": "number", "string": "text", "array": "list", "object": "object",
	}[p.Type]}
	for _, value := range p.Enum {
		words = append(words, fmt.Sprintf("`%v`", value))
	}
	for _, bound := range []struct {
		word string
		n    *float64
	}{{"from", p.Minimum}, {"to", p.Maximum}} {
		if bound.n != nil {
			words = append(words, fmt.Sprintf("%s %.0f", bound.word, *bound.n))
		}
	}
	if p.MaxItems != nil {
		words = append(words, fmt.Sprintf("of at most %d", *p.MaxItems))
	}
	return strings.Join(words, " ")
}
