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
	"strings"

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

func firstLine(err error) string {
	s, rest, _ := strings.Cut(err.Error(), "\n")
	if strings.HasSuffix(s, ":") { // what comes next is the point
		next, _, _ := strings.Cut(rest, "\n")
		s += " " + strings.TrimSpace(next)
	}
	return strings.TrimPrefix(s, "error converting YAML to JSON: ")
}
