package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	kjson "sigs.k8s.io/json"

	"fairlead.dev/fairlead/internal/world"
)

// mostWrong bounds the values of a wrong type that one document can have.
const mostWrong = 100

// Decode fills into, a pointer, from the document. A field that the kind does
// not have and a value of the wrong type are problems; they count as not
// written, and the rest counts.
func (d Document) Decode(into any) []world.Problem {
	var out []world.Problem
	content := d.JSON
	for range mostWrong {
		reflect.ValueOf(into).Elem().SetZero()
		strict, err := kjson.UnmarshalStrict(content, into)
		var wrong *json.UnmarshalTypeError
		if !errors.As(err, &wrong) || wrong.Field == "" {
			for _, e := range append(strict, err) {
				if e != nil {
					out = append(out, d.problem(e, into))
				}
			}
			return out
		}
		kind, _, _ := strings.Cut(wrong.Value, " ") // "number 1.5"
		out = append(out, world.Problem{Object: d.Object(), Source: d.Source, Field: wrong.Field,
			Reason: "is " + kinds[kind], Hint: "write " + wanted(wrong.Type)})
		if content = drop(content, strings.Split(wrong.Field, "."), kind); content == nil {
			return out
		}
	}
	return out
}

// kinds are those of JSON values, in words.
var kinds = map[string]string{
	"bool": "true or false", "number": "a number", "string": "a string", "array": "a list", "object": "an object",
}

// wanted is what a value of type t is written as.
func wanted(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return wanted(t.Elem())
	case reflect.Bool:
		return kinds["bool"]
	case reflect.String:
		return kinds["string"]
	case reflect.Slice, reflect.Array:
		return kinds["array"]
	case reflect.Struct, reflect.Map:
		return kinds["object"]
	case reflect.Float32, reflect.Float64:
		return kinds["number"]
	default:
		return "a whole number"
	}
}

// drop returns the document without the values of the given kind at path, or nil
// where there are none.
func drop(content []byte, path []string, kind string) []byte {
	decoder := json.NewDecoder(bytes.NewReader(content))
	decoder.UseNumber()
	var all any
	if err := decoder.Decode(&all); err != nil {
		return nil
	}
	rest, _ := without(all, path, kind)
	out, err := json.Marshal(rest)
	if err != nil || len(out) >= len(content) {
		return nil
	}
	return out
}

// without returns what is left of v, if anything is. A path does not say which
// item of a list it means: all of the kind go.
func without(v any, path []string, kind string) (rest any, left bool) {
	if len(path) == 0 && kindOf(v) == kind {
		return nil, false
	}
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			below := path
			if len(path) > 0 {
				if name != path[0] {
					continue
				}
				below = path[1:]
			}
			if v[name], left = without(inner, below, kind); !left {
				delete(v, name)
			}
		}
	case []any:
		var items []any
		for _, inner := range v {
			if item, left := without(inner, path, kind); left {
				items = append(items, item)
			}
		}
		return items, true
	}
	return v, true
}

func kindOf(v any) string {
	switch v.(type) {
	case bool:
		return "bool"
	case json.Number:
		return "number"
	case string:
		return "string"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	default:
		return "null"
	}
}

// unknownField is an error of sigs.k8s.io/json.
var unknownField = regexp.MustCompile(`^unknown field "([^"]+)"$`)

func (d Document) problem(err error, into any) world.Problem {
	p := world.Problem{Object: d.Object(), Source: d.Source, Reason: firstLine(err)}
	if m := unknownField.FindStringSubmatch(p.Reason); m != nil {
		p.Field, p.Reason = m[1], "is not a field of "+d.Kind
		if known := fieldsAt(reflect.TypeOf(into), m[1]); len(known) > 0 {
			p.Hint = "fields there are " + strings.Join(known, ", ")
		}
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
