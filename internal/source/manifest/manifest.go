// Package manifest reads YAML and JSON documents strictly: a key that the kind
// does not have, or a value of the wrong type, is a problem that names file,
// object and field, and the way out.
package manifest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	yamlutil "k8s.io/apimachinery/pkg/util/yaml"

	"fairlead.dev/fairlead/internal/world"
)

// A Document is one object as written, with what identifies it.
type Document struct {
	Source     string // the file
	APIVersion string
	Kind       string
	Namespace  string // "" where none is written
	Name       string
	JSON       []byte
}

// Object names the document's object as problems do: "Pod default/a".
func (d Document) Object() string {
	if d.Namespace != "" {
		return d.Kind + " " + d.Namespace + "/" + d.Name
	}
	return d.Kind + " " + d.Name
}

// maxDocument bounds one document, as etcd bounds an object.
const maxDocument = 1 << 20

// Parse splits a file into its documents. Documents that are no objects at all
// are problems; the others are returned all the same.
func Parse(source string, file []byte) ([]Document, []world.Problem) {
	var docs []Document
	var problems []world.Problem
	r := yamlutil.NewYAMLReader(bufio.NewReader(bytes.NewReader(file)))
	for n := 1; ; n++ {
		part, err := r.Read()
		if errors.Is(err, io.EOF) {
			return docs, problems
		}
		where := fmt.Sprintf("document %d", n)
		if err != nil {
			return docs, append(problems, world.Problem{Object: where, Reason: err.Error(), Source: source})
		}
		d, reason, hint := parseOne(part)
		if reason != "" {
			problems = append(problems, world.Problem{Object: where, Reason: reason, Hint: hint, Source: source})
		} else if d.Kind != "" {
			d.Source = source
			docs = append(docs, d)
		}
	}
}

func parseOne(part []byte) (d Document, reason, hint string) {
	if len(part) > maxDocument {
		return d, fmt.Sprintf("is %d bytes long", len(part)), fmt.Sprintf("an object may have %d", maxDocument)
	}
	asJSON, err := yaml.YAMLToJSONStrict(part)
	if err != nil {
		return d, fmt.Sprintf("is not YAML: %s", firstLine(err)), "correct it at the line named"
	}
	if bytes.Equal(asJSON, []byte("null")) {
		return d, "", "" // nothing but comments
	}
	var head struct {
		APIVersion string
		Kind       string
		Metadata   struct{ Namespace, Name string }
	}
	if err := json.Unmarshal(asJSON, &head); err != nil {
		return d, "is not an object: " + firstLine(err), "begin with apiVersion, kind and metadata"
	}
	d = Document{APIVersion: head.APIVersion, Kind: head.Kind, Namespace: head.Metadata.Namespace, Name: head.Metadata.Name, JSON: asJSON}
	if d.APIVersion == "" || d.Kind == "" {
		return d, "has no apiVersion or no kind", "begin with apiVersion and kind"
	}
	return d, "", ""
}

// Decode fills into, a pointer, from the document. Known fields are filled in
// even where others are problems, unless a value has the wrong type.
func (d Document) Decode(into any) []world.Problem {
	strict, err := kjson.UnmarshalStrict(d.JSON, into)
	var out []world.Problem
	for _, e := range strict {
		out = append(out, d.problem(e, into))
	}
	if err != nil {
		out = append(out, d.problem(err, into))
	}
	return out
}

// Errors of sigs.k8s.io/json and encoding/json that name a field.
var (
	unknownField = regexp.MustCompile(`^unknown field "([^"]+)"$`)
	wrongType    = regexp.MustCompile(`cannot unmarshal (\S+) into Go struct field (\S+) of type (\S+)$`)
)

func (d Document) problem(err error, into any) world.Problem {
	p := world.Problem{Object: d.Object(), Source: d.Source, Reason: firstLine(err)}
	if m := unknownField.FindStringSubmatch(p.Reason); m != nil {
		p.Field, p.Reason = m[1], "is not a field of "+d.Kind
		if known := fieldsAt(reflect.TypeOf(into), m[1]); len(known) > 0 {
			p.Hint = "fields there are " + strings.Join(known, ", ")
		}
	} else if m := wrongType.FindStringSubmatch(p.Reason); m != nil {
		_, p.Field, _ = strings.Cut(m[2], ".")
		p.Reason = fmt.Sprintf("is a %s", m[1])
		p.Hint = "write a " + strings.TrimLeft(m[3], "*")
	}
	return p
}

// fieldsAt lists the fields beside the unknown one in path.
func fieldsAt(t reflect.Type, path string) []string {
	steps := strings.Split(path, ".")
	for _, step := range steps[:len(steps)-1] {
		name, _, _ := strings.Cut(step, "[")
		f, ok := fields(t)[name]
		if !ok {
			return nil
		}
		t = f
	}
	var out []string
	for name := range fields(t) {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// fields returns the JSON fields of what t points to or holds.
func fields(t reflect.Type) map[string]reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	out := map[string]reflect.Type{}
	if t.Kind() != reflect.Struct {
		return out
	}
	for f := range t.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case strings.Contains(options, "inline"):
			maps.Copy(out, fields(f.Type))
		case name != "" && name != "-":
			out[name] = f.Type
		}
	}
	return out
}

func firstLine(err error) string {
	s, _, _ := strings.Cut(err.Error(), "\n")
	return strings.TrimPrefix(s, "error converting YAML to JSON: ")
}
