package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

// The chart's value "config" is the spec of an AgentConfig; its schema is that of
// the kind, but for what JSON Schema cannot say.
func TestTheSchemaOfConfigIsThatOfTheKind(t *testing.T) {
	have, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	want, err := withConfig(have)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != string(want) {
		t.Error("config in the chart's values.schema.json is not the AgentConfig of deploy/crds: run make update")
	}
}

var (
	schemaFile = filepath.Join(chartDir, "values.schema.json")
	kindFile   = filepath.Join(deploy, "crds", "fairlead.dev_agentconfigs.yaml")
	config     = regexp.MustCompile(`(?ms)^    "config": .*?^    \}`)
)

func copySchema() error {
	schema, err := os.ReadFile(schemaFile)
	if err == nil {
		schema, err = withConfig(schema)
	}
	if err != nil {
		return err
	}
	return os.WriteFile(schemaFile, schema, 0o644)
}

// withConfig returns the schema with what the kind says of config.
func withConfig(schema []byte) ([]byte, error) {
	content, err := os.ReadFile(kindFile)
	if err != nil {
		return nil, err
	}
	var kind apiextensionsv1.CustomResourceDefinition
	if err := yaml.UnmarshalStrict(content, &kind); err != nil {
		return nil, err
	}
	if !config.Match(schema) {
		return nil, fmt.Errorf("there is no config in %s", schemaFile)
	}
	spec := kind.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
	text, err := json.MarshalIndent(plain(&spec), "    ", "  ")
	return config.ReplaceAllLiteral(schema, append([]byte(`    "config": `), text...)), err
}

// plain is what a schema says in words of JSON Schema. Objects have no fields
// but the named.
func plain(s *apiextensionsv1.JSONSchemaProps) map[string]any {
	out := map[string]any{"type": s.Type}
	set := func(name string, value any, said bool) {
		if said {
			out[name] = value
		}
	}
	set("enum", s.Enum, s.Enum != nil)
	set("minimum", s.Minimum, s.Minimum != nil)
	set("maximum", s.Maximum, s.Maximum != nil)
	set("maxLength", s.MaxLength, s.MaxLength != nil)
	set("maxItems", s.MaxItems, s.MaxItems != nil)
	set("maxProperties", s.MaxProperties, s.MaxProperties != nil)
	set("pattern", s.Pattern, s.Pattern != "")
	if s.Items != nil {
		out["items"] = plain(s.Items.Schema)
	}
	if s.Properties != nil {
		properties := map[string]any{}
		for name, p := range s.Properties {
			properties[name] = plain(&p)
		}
		out["properties"], out["additionalProperties"] = properties, false
	}
	if s.AdditionalProperties != nil {
		out["additionalProperties"] = plain(s.AdditionalProperties.Schema)
	}
	return out
}
