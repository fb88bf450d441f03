package world

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"fairlead.dev/fairlead/internal/fill"
)

// compared are all types with a method Equal.
var compared = []any{
	new(Config), new(Egress), new(Kernel), new(LabelSelector), new(LocalPod), new(Namespace), new(Node), new(Pod), new(Service), new(TCPSeen), new(Taken),
}

func nameOf(v any) string { return reflect.TypeOf(v).Elem().Name() }

// Whoever adds a type with a method Equal, or a field to one, compares it.
func TestAllTypesWithEqualAreListed(t *testing.T) {
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var want, listed []string
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), e.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == "Equal" && f.Recv != nil {
				want = append(want, strings.TrimPrefix(types.ExprString(f.Recv.List[0].Type), "*"))
			}
		}
	}
	for _, v := range compared {
		listed = append(listed, nameOf(v))
	}
	slices.Sort(want)
	slices.Sort(listed)
	if !slices.Equal(want, listed) {
		t.Errorf("types with a method Equal are %v, and those listed %v", want, listed)
	}
}

// What differs anywhere is not equal, and what differs nowhere is. There is no field yet
// that is rightly left out.
func TestEqualComparesEveryField(t *testing.T) {
	for _, v := range compared {
		t.Run(nameOf(v), func(t *testing.T) {
			filled := func() any {
				out := reflect.New(reflect.TypeOf(v).Elem()).Interface()
				filler().Fill(out)
				return out
			}
			a, b := filled(), filled()
			if !equal(a, b) {
				t.Fatal("what is the same is not equal")
			}
			filler().Each(a, func(place string) {
				if equal(a, b) || equal(b, a) {
					t.Errorf("%s%s is not compared", nameOf(v), place)
				}
			})
			if !equal(a, b) {
				t.Fatal("what was put back is not equal: the test is wrong")
			}
		})
	}
}

func filler() *fill.Filler {
	return &fill.Filler{Unexported: true, Make: map[reflect.Type]func(int) any{
		reflect.TypeFor[Labels](): func(n int) any { return NewLabels(map[string]string{"n": string(rune(n))}) },
	}}
}

// equal calls the method Equal, which may be of values or of pointers.
func equal(a, b any) bool {
	method, other := reflect.ValueOf(a).MethodByName("Equal"), reflect.ValueOf(b)
	if method.Type().In(0).Kind() != reflect.Pointer {
		other = other.Elem()
	}
	return method.Call([]reflect.Value{other})[0].Bool()
}
