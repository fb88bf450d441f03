package crd

import (
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	apiservervalidation "k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"sigs.k8s.io/yaml"
)

// A crdSchema validates objects as an API server does that has the CRD.
type crdSchema struct {
	structural *schema.Structural
	fields     apiservervalidation.SchemaValidator
	rules      *cel.Validator
}

// readCRD reads a manifest, and has it checked as when it is applied, with the
// cost of its rules.
func readCRD(t testing.TB, file string) *apiextensions.CustomResourceDefinition {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, "deploy/crds", file))
	if err != nil {
		t.Fatal(err)
	}
	var v1 apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(content, &v1); err != nil {
		t.Fatal(err)
	}
	apiextensionsv1.SetDefaults_CustomResourceDefinition(&v1)
	apiextensionsv1.SetDefaults_CustomResourceDefinitionSpec(&v1.Spec)
	var crd apiextensions.CustomResourceDefinition
	if err := apiextensionsv1.Convert_v1_CustomResourceDefinition_To_apiextensions_CustomResourceDefinition(&v1, &crd, nil); err != nil {
		t.Fatal(err)
	}
	crd.Status.StoredVersions = []string{"v1alpha1"}
	for _, err := range validation.ValidateCustomResourceDefinition(t.Context(), &crd) {
		t.Errorf("%s: %v", file, err)
	}
	return &crd
}

func newSchema(t testing.TB, file string) crdSchema {
	t.Helper()
	crd := readCRD(t, file)
	props := crd.Spec.Validation.OpenAPIV3Schema
	structural, err := schema.NewStructural(props)
	if err != nil {
		t.Fatal(err)
	}
	fields, _, err := apiservervalidation.NewSchemaValidator(props)
	if err != nil {
		t.Fatal(err)
	}
	return crdSchema{structural, fields, cel.NewValidator(structural, true, celconfig.PerCallLimit)}
}

// refuses returns what kubectl apply would say of the object: unknown fields,
// then values, then, where these are right, rules.
func (s crdSchema) refuses(t testing.TB, object map[string]any) []string {
	t.Helper()
	var said []string
	for _, path := range pruning.PruneWithOptions(object, s.structural, true, schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}) {
		said = append(said, "unknown field "+path)
	}
	defaulting.PruneNonNullableNullsWithoutDefaults(object, s.structural)
	for _, err := range apiservervalidation.ValidateCustomResource(nil, object, s.fields) {
		said = append(said, err.Error())
	}
	if len(said) > 0 {
		return said
	}
	errs, left := s.rules.Validate(t.Context(), nil, s.structural, object, nil, celconfig.RuntimeCELCostBudget)
	for _, err := range errs {
		said = append(said, err.Error())
	}
	if spent := celconfig.RuntimeCELCostBudget - left; spent > celconfig.RuntimeCELCostBudget/10 {
		t.Errorf("the rules cost %d of %d", spent, celconfig.RuntimeCELCostBudget)
	}
	return said
}

// manifests are those in deploy/crds.
var manifests = []string{"fairlead.dev_agentconfigs.yaml", "fairlead.dev_egresses.yaml", "fairlead.dev_fairleadnodes.yaml"}

func TestManifestsAreAccepted(t *testing.T) {
	for _, file := range manifests {
		crd := readCRD(t, file)
		if crd.Spec.Scope != apiextensions.ClusterScoped || crd.Spec.Subresources == nil || crd.Spec.Subresources.Status == nil {
			t.Errorf("%s: scope %s, subresources %v", file, crd.Spec.Scope, crd.Spec.Subresources)
		}
	}
}
