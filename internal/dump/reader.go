package dump

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/world"
)

// How much is read, and made of it, at most. 100,000 pods with ten labels each are 64 MiB,
// and about as much in memory. Of {} where a Service is expected a hundred times as much
// would be made: who writes a file writes every field, so that nothing of his is that dense.
const (
	mostBytes = 128 << 20
	mostMade  = 4       // bytes in memory for each that was read
	madeAtAll = 4 << 20 // of a small file
	mostValue = 1 << 20 // bytes of a value that reads itself
)

// A reader decodes JSON as encoding/json does, piece by piece and more strictly: names are
// as they are written, each once, lists have no null, and what is made has a bound.
type reader struct {
	*json.Decoder
	made   int64
	atAll  int64 // see madeAtAll
	fields map[reflect.Type]map[string][]int
}

func newReader(from io.Reader) *reader {
	r := &reader{Decoder: json.NewDecoder(&bounded{from: from}), atAll: madeAtAll, fields: map[reflect.Type]map[string][]int{}}
	r.DisallowUnknownFields()
	return r
}

// makes counts what is made before it is.
func (r *reader) makes(size int64) error {
	if r.made += size; r.made > r.atAll+mostMade*r.InputOffset() {
		return errors.New("it has too many values for its size: no node is written like that")
	}
	return nil
}

// selectedEach is made of each pod of each selection.
const selectedEach = 16

// selects counts the pods that Services select, whose number a few pods and Services with
// many labels make as large as they like.
func (r *reader) selects(pods *world.Pods, services *world.Sorted[world.Service]) error {
	for n := range world.Selected(pods, services) {
		if err := r.makes(selectedEach * int64(n)); err != nil {
			return err
		}
	}
	return nil
}

// read fills v in; null leaves it as it is.
func (r *reader) read(v reflect.Value) (null bool, err error) {
	switch own := reflect.PointerTo(v.Type()).Implements(reflect.TypeFor[json.Unmarshaler]()); {
	case v.Kind() == reflect.Pointer:
		p := reflect.New(v.Type().Elem())
		if null, err = r.read(p.Elem()); !null && err == nil {
			v.Set(p)
			err = r.makes(int64(p.Type().Elem().Size()))
		}
		return null, err
	case own || v.Kind() == reflect.Map:
		return r.value(v)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() != reflect.Uint8:
		if null, err = r.each('[', func() error { return r.element(v) }); !null && v.IsNil() {
			v.Set(reflect.MakeSlice(v.Type(), 0, 0))
		}
		return null, err
	case v.Kind() == reflect.Struct && r.members(v.Type()) != nil:
		seen := map[string]bool{}
		return r.each('{', func() error { return r.member(v, seen) })
	}
	if v.Kind() == reflect.String {
		return r.text(v)
	}
	return false, r.Decode(v.Addr().Interface())
}

func (r *reader) text(v reflect.Value) (null bool, err error) {
	token, err := r.Token()
	text, ok := token.(string)
	if err == nil && token != nil && !ok {
		err = fmt.Errorf("%s where a text is expected", kind(token))
	}
	v.SetString(text)
	return err == nil && token == nil, err
}

// each reads an object or a list; one reads one of what is in it.
func (r *reader) each(begin json.Delim, one func() error) (null bool, err error) {
	token, err := r.Token()
	switch {
	case err != nil:
		return false, err
	case token == nil:
		return true, nil
	case token != begin:
		return false, fmt.Errorf("%s where %s is expected", kind(token), kind(begin))
	}
	for r.More() {
		if err := one(); err != nil {
			return false, err
		}
	}
	_, err = r.Token()
	return false, err
}

func (r *reader) element(list reflect.Value) error {
	n := list.Len()
	t := list.Type().Elem()
	if err := r.makes(int64(t.Size())); err != nil {
		return err
	}
	list.Grow(1)
	list.SetLen(n + 1)
	null, err := r.read(list.Index(n))
	switch {
	case null:
		return fmt.Errorf("element %d is null", n)
	case err != nil && n > 0:
		return fmt.Errorf("element %d: %w", n, err)
	}
	return err
}

func (r *reader) member(object reflect.Value, seen map[string]bool) error {
	token, err := r.Token()
	if err != nil {
		return err
	}
	name, _ := token.(string) // there is nothing else in an object
	index, ok := r.members(object.Type())[name]
	switch {
	case !ok:
		return fmt.Errorf("unknown field %s", quote.Of(name))
	case seen[name]:
		return fmt.Errorf("field %s is there twice", name)
	}
	seen[name] = true
	if _, err := r.read(object.FieldByIndex(index)); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// members are the fields of a struct that are in a file, by their names there; nil: it is
// no struct of ours, and knows how it is written.
func (r *reader) members(t reflect.Type) map[string][]int {
	if known, ok := r.fields[t]; ok {
		return known
	}
	var out map[string][]int
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous || !f.IsExported() || name == "-" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		if out == nil {
			out = map[string][]int{}
		}
		out[name] = f.Index
	}
	r.fields[t] = out
	return out
}

// What values that read themselves make.
const (
	makesAtLeast  = 96 // whatever is in them
	ruleMakesEach = 8  // of each byte of a rule
)

// value reads one that reads itself, which is as long as it likes only where it looks at
// what is in it one by one.
func (r *reader) value(v reflect.Value) (null bool, err error) {
	if v.Type() == reflect.TypeFor[nft.Elements]() {
		return false, r.Decode(v.Addr().Interface())
	}
	var text json.RawMessage
	if err := r.Decode(&text); err != nil {
		return false, err
	}
	if string(text) == "null" {
		return true, nil
	}
	size := int64(makesAtLeast)
	switch v.Type() {
	case reflect.TypeFor[nft.Rule]():
		size += ruleMakesEach * int64(len(text))
	case reflect.TypeFor[world.Parts](): // as long as what is allocated, and kept as text
		size += int64(len(text))
	}
	if v.Type() != reflect.TypeFor[world.Parts]() && len(text) > mostValue {
		return false, errors.New("one value is longer than any that is written")
	}
	if err := r.makes(size); err != nil {
		return false, err
	}
	return false, json.Unmarshal(text, v.Addr().Interface())
}

// kind is what a token begins, for people.
func kind(token json.Token) string {
	switch t := token.(type) {
	case json.Delim:
		if t == '{' {
			return "an object"
		}
		return "an array"
	case string:
		return "a text"
	case bool:
		return "true or false"
	}
	return "a number"
}

// bounded refuses what is too much while nothing is made of it yet.
type bounded struct {
	from  io.Reader
	bytes int
}

func (b *bounded) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	if b.bytes += n; b.bytes > mostBytes {
		return 0, fmt.Errorf("it has more than %d MiB", mostBytes>>20)
	}
	return n, err
}
