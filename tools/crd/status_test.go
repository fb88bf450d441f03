package crd

import (
	"strings"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/world"
)

// Whatever an agent writes in a status has a bound in the schema: one agent's is read
// by all others.
func TestEverythingInAStatusHasABound(t *testing.T) {
	for _, file := range manifests {
		status := readCRD(t, file).Spec.Validation.OpenAPIV3Schema.Properties["status"]
		eachPart("status", &status, func(path string, p *apiextensions.JSONSchemaProps) {
			switch {
			case p.Type == "string" && p.MaxLength == nil && p.Format == "" && p.Enum == nil:
				t.Errorf("%s: %s has no maxLength", file, path)
			case p.Type == "array" && p.MaxItems == nil:
				t.Errorf("%s: %s has no maxItems", file, path)
			case p.Type == "object" && p.AdditionalProperties != nil && p.MaxProperties == nil:
				t.Errorf("%s: %s has no maxProperties", file, path)
			}
		})
	}
}

func eachPart(path string, p *apiextensions.JSONSchemaProps, see func(string, *apiextensions.JSONSchemaProps)) {
	see(path, p)
	for name, inner := range p.Properties {
		eachPart(path+"."+name, &inner, see)
	}
	if p.Items != nil && p.Items.Schema != nil {
		eachPart(path+"[]", p.Items.Schema, see)
	}
	if p.AdditionalProperties != nil && p.AdditionalProperties.Schema != nil {
		eachPart(path+".*", p.AdditionalProperties.Schema, see)
	}
}

// The schema has room for the longest that an agent tells, and for no more.
func TestASchemaHasRoomForWhatAnAgentTells(t *testing.T) {
	s := newSchema(t, "fairlead.dev_fairleadnodes.yaml")
	long := strings.Repeat("x", 250_000)
	problem := world.Problem{Object: long, Field: long, Reason: long, Hint: long, Source: long}
	for _, c := range []struct {
		name    string
		problem world.Problem
		refused int
	}{{"as it is told", problem.Told(), 0}, {"as it was written", problem, 5}} {
		n := &v1alpha1.FairleadNode{TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: "FairleadNode"}}
		n.Name = "n1"
		n.Status.Version = quote.Text(long, quote.Value)
		n.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: "True", Reason: "Applied", Message: quote.Text(long, quote.Sentence), LastTransitionTime: metav1.Now()}}
		for range v1alpha1.MaxProblems {
			n.Status.Problems = append(n.Status.Problems, v1alpha1.Problem(c.problem))
		}
		object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(n)
		if err != nil {
			t.Fatal(err)
		}
		if said := s.refuses(t, object); len(said) != c.refused*v1alpha1.MaxProblems {
			t.Errorf("%s: %d complaints, such as %.300q", c.name, len(said), said)
		}
	}
}
