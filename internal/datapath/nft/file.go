package nft

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"

	"golang.org/x/sys/unix"
)

// In a file, a rule is its two faces: the text, to be read, and the bytecode, to be
// compared and to be given to a kernel. That is all that anybody asks a rule for, so
// words need no names there, and a file keeps words that later versions no longer
// have. Bytecode is of the byte order of the machine that wrote it; to one of the
// other order, its attributes are cut short.
type fileRule struct {
	Text string `json:"text"`
	Code []byte `json:"code"`
}

// written is a whole rule that was read from a file.
type written struct {
	words string
	expr  []instruction
}

func (w written) text() string        { return w.words }
func (w written) code() []instruction { return w.expr }

// MarshalJSON writes r for a file.
func (r Rule) MarshalJSON() ([]byte, error) {
	return json.Marshal(fileRule{r.String(), encode(r.expressions())})
}

// UnmarshalJSON reads a rule, which becomes one word.
func (r *Rule) UnmarshalJSON(text []byte) error {
	var f fileRule
	if err := strictly(text, &f); err != nil {
		return err
	}
	if len(f.Code) > mostCode {
		return errors.New("the code of a rule is longer than a kernel takes")
	}
	w := written{words: f.Text}
	exprs, ok := attributes(f.Code)
	for _, e := range exprs {
		named := e.nested
		if ok = ok && len(named) == 2 && len(named[0].data) > 0; !ok {
			break
		}
		w.expr = append(w.expr, instruction{string(bytes.TrimRight(named[0].data, "\x00")), named[1].nested})
	}
	if !ok {
		return errors.New("the code of a rule is cut short, or of a machine with another byte order")
	}
	*r = Rule{w}
	return nil
}

// mostCode is the size of the attribute that has a rule's expressions (Linux
// include/uapi/linux/netlink.h, struct nlattr).
const mostCode = 1<<16 - 1

// attributes are those that encode laid out.
func attributes(b []byte) (out []attr, ok bool) {
	for len(b) >= 4 {
		size, typ := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
		if size < 4 || size > len(b) {
			return nil, false
		}
		a := attr{typ: typ &^ unix.NLA_F_NESTED}
		if a.typ == typ {
			a.data = b[4:size:size]
		} else if a.nested, ok = attributes(b[4:size]); !ok {
			return nil, false
		}
		out = append(out, a)
		b = b[min(len(b), (size+3)&^3):]
	}
	return out, len(b) == 0
}

// A fileElement is an Element in a file, which has no place for bytes that are no text.
type fileElement struct {
	Key  []byte `json:"key,omitempty"`
	End  []byte `json:"end,omitempty"`
	Data []byte `json:"data,omitempty"`
}

// MarshalJSON writes e for a file.
func (e Elements) MarshalJSON() ([]byte, error) {
	out := make([]fileElement, 0, e.Len())
	for x := range e.All() {
		out = append(out, fileElement{[]byte(x.Key), []byte(x.End), []byte(x.Data)})
	}
	return json.Marshal(out)
}

// shortest is the size of the shortest element with a key, and of what stands before the next.
const shortest = len(`{"key":"AA=="},`)

// UnmarshalJSON reads elements, one by one: there may be many, and what is made of them
// before they are sorted should not be more. At most one has no key.
func (e *Elements) UnmarshalJSON(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if begin, err := d.Token(); err != nil {
		return err
	} else if begin != json.Delim('[') {
		return errors.New("elements are no array")
	}
	out := make([]Element, 0, min(bytes.Count(text, []byte("{")), len(text)/shortest+1))
	var x fileElement
	keyless := 0
	for d.More() {
		x.Key, x.End, x.Data = x.Key[:0], x.End[:0], x.Data[:0]
		if err := d.Decode(&x); err != nil {
			return err
		}
		if len(x.Key) == 0 {
			keyless++
		}
		if keyless > 1 {
			return errors.New("two elements have no key")
		}
		out = append(out, Element{string(x.Key), string(x.End), string(x.Data)})
	}
	*e = Sorted(out)
	return nil
}

// strictly reads what a decoder was told to read strictly, which it does not pass on.
func strictly(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// same reports whether the kernel does the same for r and s.
func (r Rule) same(s Rule) bool { return bytes.Equal(encode(r.expressions()), encode(s.expressions())) }
