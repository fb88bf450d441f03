package world

import (
	"encoding/binary"
	"encoding/json"
	"iter"
	"maps"
	"slices"
	"strings"
	"unique"
)

// Labels are names with values: an object's labels or annotations, or what a
// selector asks for. All that say the same are one value in memory, so they are
// compared with == and can be keys of maps. The zero value has none.
type Labels struct{ text unique.Handle[string] } // names and values in order, each after its length

// NewLabels returns the labels in m.
func NewLabels(m map[string]string) Labels {
	if len(m) == 0 {
		return Labels{}
	}
	var text []byte
	for _, name := range slices.Sorted(maps.Keys(m)) {
		for _, s := range []string{name, m[name]} {
			text = binary.AppendUvarint(text, uint64(len(s)))
			text = append(text, s...)
		}
	}
	return Labels{unique.Make(string(text))}
}

// All yields names and values, sorted by name.
func (l Labels) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		if l == (Labels{}) {
			return
		}
		for text := l.text.Value(); text != ""; {
			var name, value string
			name, text = cutLabel(text)
			value, text = cutLabel(text)
			if !yield(name, value) {
				return
			}
		}
	}
}

// cutLabel returns the string at the beginning of text, and what follows it.
func cutLabel(text string) (s, rest string) {
	head := []byte(text[:min(len(text), binary.MaxVarintLen64)])
	n, size := binary.Uvarint(head)
	end := size + int(n)
	return text[size:end], text[end:]
}

// Get returns the value of a name.
func (l Labels) Get(name string) (value string, ok bool) {
	for n, v := range l.All() {
		if n == name {
			return v, true
		}
	}
	return "", false
}

// compare orders labels somehow, always alike.
func (l Labels) compare(m Labels) int {
	if l == m {
		return 0
	}
	text := func(l Labels) string {
		if l == (Labels{}) {
			return ""
		}
		return l.text.Value()
	}
	return strings.Compare(text(l), text(m))
}

// MarshalJSON writes l as an object.
func (l Labels) MarshalJSON() ([]byte, error) { return json.Marshal(maps.Collect(l.All())) }

// UnmarshalJSON reads an object.
func (l *Labels) UnmarshalJSON(text []byte) error {
	var m map[string]string
	if err := json.Unmarshal(text, &m); err != nil {
		return err
	}
	*l = NewLabels(m)
	return nil
}
