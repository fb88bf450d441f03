package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	kjson "sigs.k8s.io/json"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/lab/plan"
	"fairlead.dev/fairlead/internal/source/manifest"
	"fairlead.dev/fairlead/internal/world"
)

// A kind is a sort of objects that a lab stores.
type kind struct {
	apiVersion string
	name       string
	namespaced bool
	short      string
}

// kinds are those that a lab stores, in the order in which they are listed.
var kinds = []kind{
	{"v1", "Namespace", false, "ns"},
	{"v1", "Node", false, "no"},
	{"v1", "Pod", true, "po"},
	{"v1", "Service", true, "svc"},
	{v1alpha1.APIVersion, agentConfig, false, ""},
	{v1alpha1.APIVersion, egress, false, ""},
}

// nodeReport and nodeEvent are kinds that only agents write.
var (
	nodeReport = kind{v1alpha1.APIVersion, "FairleadNode", false, ""}
	nodeEvent  = kind{"v1", "Event", true, "ev"}
)

// findKind understands Pod, pod, pods and po, and egresses.
func findKind(word string) (kind, error) {
	all := append(slices.Clone(kinds), nodeReport, nodeEvent)
	var names []string
	for _, k := range all {
		lower := strings.ToLower(k.name)
		if w := strings.ToLower(word); w == lower || w == plural(lower) || k.short != "" && w == k.short {
			return k, nil
		}
		names = append(names, lower)
	}
	return kind{}, fmt.Errorf("there is no kind %q: kinds are %s", word, strings.Join(names, ", "))
}

func plural(word string) string {
	if strings.HasSuffix(word, "s") {
		return word + "es"
	}
	return word + "s"
}

// ref names an object.
type ref struct{ kind, namespace, name string }

// String names the object as problems do: "Pod default/a".
func (r ref) String() string {
	if r.namespace != "" {
		return r.kind + " " + r.namespace + "/" + r.name
	}
	return r.kind + " " + r.name
}

// file is the base name of the object's file.
func (r ref) file() string {
	if r.namespace != "" {
		return strings.ToLower(r.kind) + "." + r.namespace + "." + r.name
	}
	return strings.ToLower(r.kind) + "." + r.name
}

// An object is kept as it was written, with what an API server adds.
type object struct {
	ref
	fields map[string]any
}

func (o *object) metadata() map[string]any { return child(o.fields, "metadata") }

// child returns the map under key, made if need be.
func child(m map[string]any, key string) map[string]any {
	c, ok := m[key].(map[string]any)
	if !ok {
		c = map[string]any{}
		m[key] = c
	}
	return c
}

func (o *object) json() []byte {
	b, err := json.Marshal(o.fields)
	if err != nil {
		panic("an object that was JSON is none: " + err.Error())
	}
	return b
}

// into fills a typed object as far as the fields have the right types; the
// agents say what is wrong with the others.
func (o *object) into(typed any) {
	_ = kjson.UnmarshalCaseSensitivePreserveInts(o.json(), typed)
}

// equal reports whether o and p say the same, but for what the store adds.
func (o *object) equal(p *object) bool { return bytes.Equal(o.json(), p.json()) }

// newObject is the object of a document; the problem says why it cannot be
// stored.
func newObject(d manifest.Document) (*object, *world.Problem) {
	bad := func(field, reason, hint string) (*object, *world.Problem) {
		return nil, &world.Problem{Object: d.Object(), Field: field, Reason: reason, Hint: hint, Source: d.Source}
	}
	i := slices.IndexFunc(kinds, func(k kind) bool { return k.name == d.Kind && k.apiVersion == d.APIVersion })
	if i < 0 {
		var names []string
		for _, k := range kinds {
			names = append(names, k.apiVersion+" "+k.name)
		}
		return bad("kind", fmt.Sprintf("%s %s is not known to the lab", d.APIVersion, d.Kind), "known are "+strings.Join(names, ", "))
	}
	if !isFileName(d.Name) {
		return bad("metadata.name", fmt.Sprintf("%q is no name", d.Name), nameHint)
	}
	o := &object{ref: ref{kind: d.Kind, name: d.Name}}
	if kinds[i].namespaced {
		if o.namespace = d.Namespace; o.namespace == "" {
			o.namespace = "default"
		}
		if !isFileName(o.namespace) {
			return bad("metadata.namespace", fmt.Sprintf("%q is no name", o.namespace), nameHint)
		}
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(d.JSON, &o.fields); err != nil {
		return bad("", err.Error(), "")
	}
	if o.namespace != "" {
		o.metadata()["namespace"] = o.namespace
	}
	delete(o.fields, "status") // not the user's to say
	return o, nil
}

const nameHint = "use up to 63 lower-case letters, digits, dashes and dots, a letter or digit at both ends"

// isFileName reports whether every part of a name is a label: then it can be a
// file name.
func isFileName(s string) bool {
	for part := range strings.SplitSeq(s, ".") {
		if !plan.IsLabel(part) {
			return false
		}
	}
	return len(s) <= 63
}
