// Package fill gives values content and changes it piece by piece, for tests that must
// notice a field which somebody adds.
package fill

import (
	"fmt"
	"iter"
	"net/netip"
	"reflect"
	"unsafe"
)

// A Filler fills values through pointers, elements and fields.
type Filler struct {
	// Make makes values of types that are filled as a whole: another for each n.
	Make map[reflect.Type]func(n int) any
	// Unexported fields are filled, too.
	Unexported bool

	n int // of values that were filled
}

// made are the types of other packages that are filled as a whole.
var made = map[reflect.Type]func(n int) any{
	reflect.TypeFor[netip.Addr]():     func(n int) any { return address(n) },
	reflect.TypeFor[netip.AddrPort](): func(n int) any { return netip.AddrPortFrom(address(n), uint16(n)) },
	reflect.TypeFor[netip.Prefix]():   func(n int) any { return netip.PrefixFrom(address(n), 8+n%24) },
}

func address(n int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, byte(n >> 8), byte(n)}) }

// Fill fills what v points to: nothing in it is zero, no two numbers or texts are alike
// but by chance, and what can have several elements has two; maps have one.
func (f *Filler) Fill(v any) { f.fill(reflect.ValueOf(v).Elem()) }

func (f *Filler) fill(v reflect.Value) {
	f.n++
	if f.whole(v) {
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(1 + f.n%100))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(1 + f.n%100))
	case reflect.String:
		v.SetString(fmt.Sprint("text ", f.n))
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		f.fill(v.Index(0))
		f.fill(v.Index(1))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(f.fresh(v.Type().Key()), f.fresh(v.Type().Elem()))
	case reflect.Array:
		for i := range v.Len() {
			f.fill(v.Index(i))
		}
	case reflect.Struct:
		for _, at := range f.fields(v) {
			f.fill(at)
		}
	default:
		panic(fmt.Sprintf("nobody says how to fill a %s", v.Type()))
	}
}

// whole fills v, if it is of a type that is filled as a whole.
func (f *Filler) whole(v reflect.Value) bool {
	one, ok := f.Make[v.Type()]
	if !ok {
		one, ok = made[v.Type()]
	}
	if ok {
		v.Set(reflect.ValueOf(one(f.n)))
	}
	return ok
}

func (f *Filler) fresh(t reflect.Type) reflect.Value {
	v := reflect.New(t).Elem()
	f.fill(v)
	return v
}

// fields are those of a struct, with their names.
func (f *Filler) fields(v reflect.Value) iter.Seq2[string, reflect.Value] {
	return func(yield func(string, reflect.Value) bool) {
		for i := range v.NumField() {
			field, at := v.Type().Field(i), v.Field(i)
			if !field.IsExported() {
				at = reflect.NewAt(field.Type, unsafe.Pointer(at.UnsafeAddr())).Elem()
			}
			if (field.IsExported() || f.Unexported) && !yield(field.Name, at) {
				return
			}
		}
	}
}

// Each changes what v points to at one place after the other, and puts it back before
// it goes on. While it is another, it calls changed with the place.
func (f *Filler) Each(v any, changed func(place string)) {
	f.each(reflect.ValueOf(v).Elem(), "", changed)
}

func (f *Filler) each(v reflect.Value, place string, changed func(string)) {
	was := reflect.New(v.Type()).Elem()
	was.Set(v)
	for f.whole(v) {
		if f.n++; !reflect.DeepEqual(v.Interface(), was.Interface()) {
			changed(place)
			v.Set(was)
			return
		}
	}
	switch v.Kind() {
	case reflect.Struct:
		for name, at := range f.fields(v) {
			f.each(at, place+"."+name, changed)
		}
		return
	case reflect.Array:
		f.elements(v, place, changed)
		return
	case reflect.Slice:
		f.elements(v, place, changed)
		v.Set(v.Slice(0, v.Len()-1))
		place += " (one less)"
	case reflect.Pointer:
		f.each(v.Elem(), place, changed)
		v.SetZero()
		place += " (nil)"
	case reflect.Map:
		f.entries(v, place, changed)
		v.SetZero()
		place += " (nil)"
	case reflect.Bool:
		v.SetBool(!v.Bool())
	case reflect.String:
		v.SetString(v.String() + ", another")
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(v.Int() + 1)
	default:
		v.SetUint(v.Uint() + 1)
	}
	changed(place)
	v.Set(was)
}

func (f *Filler) elements(v reflect.Value, place string, changed func(string)) {
	for i := range v.Len() {
		f.each(v.Index(i), fmt.Sprintf("%s[%d]", place, i), changed)
	}
}

// entries changes values of a map, and then keys.
func (f *Filler) entries(v reflect.Value, place string, changed func(string)) {
	for _, key := range v.MapKeys() {
		value := reflect.New(v.Type().Elem()).Elem()
		value.Set(v.MapIndex(key))
		f.each(value, place+"[]", func(place string) {
			before := v.MapIndex(key)
			v.SetMapIndex(key, value)
			changed(place)
			v.SetMapIndex(key, before)
		})
		v.SetMapIndex(f.fresh(key.Type()), value)
		v.SetMapIndex(key, reflect.Value{})
		changed(place + " (another key)")
		v.Clear()
		v.SetMapIndex(key, value)
	}
}

// Compared returns the places in a T that equal does not compare.
func Compared[T any](equal func(a, b *T) bool) (missed []string) {
	a, b := new(T), new(T)
	(&Filler{Unexported: true}).Fill(a)
	f := &Filler{Unexported: true}
	f.Fill(b)
	if !equal(a, b) {
		return []string{"the same is not equal"}
	}
	f.Each(b, func(place string) {
		if equal(a, b) || equal(b, a) {
			missed = append(missed, place)
		}
	})
	return missed
}
