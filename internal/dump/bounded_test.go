package dump

import (
	"io"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// endless is a beginning, and then the same again and again, for so many bytes, and an end.
type endless struct {
	left, again string
	bytes       int
	end         string
}

func (e *endless) Read(p []byte) (int, error) {
	if e.left == "" && e.bytes > 0 {
		e.left = strings.Repeat(e.again, 10_000)
	} else if e.left == "" {
		e.left, e.end = e.end, ""
	}
	if e.left == "" {
		return 0, io.EOF
	}
	n := copy(p, e.left)
	e.left = e.left[n:]
	e.bytes -= n
	return n, nil
}

// closing ends what begin began, behind a comma.
func closing(begin string) string {
	var out []byte
	for _, c := range []byte(begin) {
		switch c {
		case '{':
			out = append(out, '}')
		case '[':
			out = append(out, ']')
		}
	}
	slices.Reverse(out)
	return string(out)
}

// places are the lists of a type, each as a beginning of a file that ends inside it.
func places(t reflect.Type, before string, add func(string)) {
	r := newReader(nil)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Slice:
		add(before + "[")
		if t.Elem().Kind() != reflect.Uint8 {
			places(t.Elem(), before+"[", add)
		}
	case reflect.Map:
		add(before + "{")
	case reflect.Struct:
		members := r.members(t)
		if members == nil || t.Kind() == reflect.Struct && t.NumField() == 1 && !t.Field(0).IsExported() {
			add(before + "[")
			return
		}
		for name, index := range members {
			places(t.FieldByIndex(index).Type, before+`{"`+name+`": `, add)
		}
	}
}

// Whatever is said again and again, wherever there is a list, memory is a few times of what
// was read, and there is an end.
func TestMemoryIsAFewTimesTheFile(t *testing.T) {
	var all []string
	places(reflect.TypeFor[file](), "", func(s string) { all = append(all, s) })
	if len(all) < 60 {
		t.Fatalf("only %d lists", len(all))
	}
	const size = 256 << 10
	for _, begin := range all {
		for _, again := range []string{`{},`, `[],`, `null,`, `"",`, `0,`, `{"key":"AA=="},`, `{"text":"","code":""},`} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			r, f := newReader(&endless{begin, again, size, strings.TrimSuffix(again, ",") + closing(begin)}), file{}
			r.atAll = size / 16
			_, err := r.read(reflect.ValueOf(&f).Elem())
			runtime.ReadMemStats(&after)
			// What is made in all, garbage too, is more than is ever there at once.
			if made := after.TotalAlloc - before.TotalAlloc; made > 16*size {
				t.Errorf("%s%s… makes %d bytes of %d, and says %v", begin, again, made, size, err)
			}
		}
	}
}

func TestReadingHasAnEnd(t *testing.T) {
	t.Parallel()
	for _, begin := range []string{"", `{"version": 1, "world": {"Services": {"List": [{"Type": "`} {
		if _, err := Read(&endless{begin, "a long text ", 1 << 40, ""}); err == nil || begin != "" && !strings.Contains(err.Error(), "more than 128 MiB") {
			t.Errorf("%q without an end: %v", begin, err)
		}
	}
}
