package feature_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/feature/all"
	"fairlead.dev/fairlead/internal/world"
)

// unvaried are places in a world that histories need not change, and why.
var unvaried = map[string]string{
	"World.Allocations.Settings.List[].Inode": "which namespace it is, only the agent asks",
	"World.Attachments.List[].Inode":          "which namespace it is, only the agent asks",
	"World.Attachments.List[].Interface":      "one network gives a pod one interface",
	"World.Attachments.List[].MAC":            "of attachments whose record is lost, which tests of the agent have",
	"World.Attachments.List[].Namespace":      "a name for people",
	"World.Attachments.List[].Place":          "where the namespace is looked for, by the agent",
	"World.Attachments.List[].Wire":           "of attachments whose record is lost, which tests of the agent have",
	"World.Config.EgressSNAT.Block":           "only the node's own addresses are shared out in blocks",
	"World.Allocations.EgressIndices.List[]":  "it has two lines of names, which are looked at as one",
	"World.Egresses.List[].Key.Namespace":     "the kind has none",
	"World.Namespaces.List[].Key.Namespace":   "the kind has none",
	"World.Kernel.Interfaces[]":               "some of these tests apply what comes of it, and have these",
	"World.LocalPods.List.chunks[][].Node":    "these are the node's own",
	"World.Node.MAC":                          "it follows from the name",
	"World.Node.Name":                         "an agent is of one node",
	"World.Node.Ends[]":                       "what the node itself reports counts for others",
	"World.Node.InForce.Mode":                 "what the node itself reports counts for others",
	"World.Node.InForce.Port":                 "what the node itself reports counts for others",
	"World.Node.InForce.VNI":                  "what the node itself reports counts for others",
}

// Histories change every part of the world, so that no feature remembers what
// TestColdAndWarmAreEqual does not see change. Who adds a field to the world, has a
// feature need another kind of objects, or a helper observe something, adds it to the
// histories of this package.
func TestHistoriesChangeTheWholeWorld(t *testing.T) {
	t.Parallel()
	seen := sightings{}
	h := newHistory(4, []string{"/run/netns/a", "/run/netns/b", "/run/netns/c"})
	l := newLine()
	for range 3000 {
		h.step()
		w, r := l.run(h.in)
		h.in.Allocations, h.in.Before = r.Allocations, w.Peers
		seen.look("World", reflect.ValueOf(w).Elem())
	}
	needs := feature.Needs(all.Features)
	for place, needed := range map[string]bool{"Pods": needs.Pods != world.NoPods, "LocalPods": needs.Pods != world.NoPods,
		"Namespaces": needs.Namespaces, "Services": needs.Services} {
		if !needed {
			maps.DeleteFunc(seen, func(p string, _ map[string]bool) bool {
				return p == "World."+place || strings.HasPrefix(p, "World."+place+".")
			})
		}
	}
	for _, name := range owns(t) {
		there := func(place string) bool {
			return slices.ContainsFunc([]string{"World.Observed.", "World.Allocations."}, func(parts string) bool {
				return place == parts+name || strings.HasPrefix(place, parts+name+".")
			})
		}
		if !slices.ContainsFunc(slices.Collect(maps.Keys(seen)), there) {
			t.Errorf("the part %s is never there", name)
		}
	}
	for _, place := range slices.Sorted(maps.Keys(seen)) {
		if varied := len(seen[place]) > 1; varied == (unvaried[place] != "") {
			t.Errorf("%s is always %v, or unvaried is wrong about it: %q", place, slices.Collect(maps.Keys(seen[place])), unvaried[place])
		}
	}
}

// sightings are the values that were seen at each place, some of them.
type sightings map[string]map[string]bool

func (s sightings) note(place string, value any) {
	const enough = 2
	if s[place] == nil {
		s[place] = map[string]bool{}
	}
	if len(s[place]) < enough {
		s[place][fmt.Sprint(value)] = true
	}
}

// leaves are types that are looked at as a whole.
var leaves = []reflect.Type{reflect.TypeFor[netip.Addr](), reflect.TypeFor[netip.Prefix](), reflect.TypeFor[netip.AddrPort](), reflect.TypeFor[world.Labels]()}

// look notes what v holds. All elements of a list are one place.
func (s sightings) look(place string, v reflect.Value) {
	if slices.Contains(leaves, v.Type()) {
		s.note(place, v)
		return
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return
		}
		s.look(place, v.Elem())
	case reflect.Slice:
		s.note(place+"[]", min(v.Len(), 2))
		for i := range v.Len() {
			s.look(place+"[]", v.Index(i))
		}
	case reflect.Map:
		s.note(place+"[]", min(v.Len(), 2))
		for _, value := range v.Seq2() {
			s.look(place+"[]", value)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[world.Part]() {
			s.look(strings.TrimSuffix(place, ".list[]")+"."+v.FieldByName("name").String(), v.FieldByName("value"))
			return
		}
		for i := range v.NumField() {
			s.look(place+"."+v.Type().Field(i).Name, v.Field(i))
		}
	default:
		s.note(place, v)
	}
}

// owns are the names of all parts of the world that are one feature's.
func owns(t *testing.T) (out []string) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 1 {
				return true
			}
			of, ok := call.Fun.(*ast.IndexExpr)
			if !ok {
				return true
			}
			name := of.X
			if s, ok := name.(*ast.SelectorExpr); ok {
				name = s.Sel
			}
			if id, ok := name.(*ast.Ident); ok && id.Name == "Own" {
				text, err := strconv.Unquote(call.Args[0].(*ast.BasicLit).Value)
				if err != nil {
					t.Fatalf("%s: %v", path, err)
				}
				out = append(out, text)
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
