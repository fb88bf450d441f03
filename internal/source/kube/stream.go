package kube

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"

	"fairlead.dev/fairlead/internal/kube"
)

// Lists of Kubernetes' own kinds are taken apart while they come in. That of
// 100,000 pods is 200 MB long, and little of it counts; it comes in less than half
// the time that as many events of a watch take (KEP-3157), and a server since
// Kubernetes 1.33 does not hold it as a whole either (KEP-5116).

// A message is an object that comes as protobuf.
type message interface {
	runtime.Object
	Unmarshal([]byte) error
}

// A takenList is a list of which only what counts was kept.
type takenList struct {
	metav1.TypeMeta
	metav1.ListMeta
	Items []runtime.Object // parsed
}

// DeepCopyObject is what every list has; nobody changes one.
func (l *takenList) DeepCopyObject() runtime.Object { return l }

// stream asks for all objects and takes each in as soon as it is there.
func (w *watched[T]) stream(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
	body, err := w.request(options).Stream(ctx)
	w.answer(ctx, err)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	in := bufio.NewReaderSize(body, readAhead)
	if start, err := in.Peek(len(magic)); err != nil || !bytes.Equal(start, magic) {
		return whole(in)
	}
	_, _ = in.Discard(len(magic)) // is there: it was looked at
	out := &takenList{}
	var part []byte
	return out, eachItem(in, &out.ListMeta, func(item []byte) (err error) {
		if w.keeps != nil {
			if part, err = lean(part[:0], item, w.keeps); err != nil {
				return err
			}
			item = part
		}
		o := w.fresh()
		if err := o.Unmarshal(item); err != nil {
			return err
		}
		if v := w.parse(o); v != nil {
			out.Items = append(out.Items, parsed[T]{v})
		}
		return nil
	})
}

// whole reads a list that came otherwise than as protobuf: a server may.
func whole(in io.Reader) (runtime.Object, error) {
	body, err := io.ReadAll(in)
	if err != nil {
		return nil, err
	}
	return runtime.Decode(serializer.NewCodecFactory(kube.Scheme()).UniversalDeserializer(), body)
}

// magic begins what Kubernetes sends as protobuf. A message of type Unknown
// follows, whose field raw is the list (staging/src/k8s.io/apimachinery/pkg/runtime/serializer/protobuf).
var magic = []byte("k8s\x00")

// The fields that count: of Unknown, and of every list.
const (
	fieldRaw      = 2
	fieldListMeta = 1
	fieldItem     = 2

	// The types of fields that occur (protobuf.dev, "Encoding").
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

const readAhead = 256 << 10

// mostItem is how long an object may be. What etcd takes is shorter.
const mostItem = 16 << 20

// eachItem reads a list, behind magic. An item is valid until visit returns.
func eachItem(in *bufio.Reader, meta *metav1.ListMeta, visit func(item []byte) error) error {
	come := false
	return eachField(in, func(number uint64, raw *io.LimitedReader) error {
		if number != fieldRaw {
			return nil
		}
		if come {
			return errors.New("two lists where there is one")
		}
		come = true
		var text []byte
		return eachField(bufio.NewReaderSize(raw, readAhead), func(number uint64, field *io.LimitedReader) error {
			if number != fieldListMeta && number != fieldItem {
				return nil
			}
			if field.N > mostItem {
				return fmt.Errorf("an object of a list has %d bytes, more than %d", field.N, mostItem)
			}
			text = slices.Grow(text[:0], int(field.N))[:field.N]
			if _, err := io.ReadFull(field, text); err != nil {
				return err
			}
			if number == fieldListMeta {
				return meta.Unmarshal(text)
			}
			return visit(text)
		})
	})
}

// eachField calls visit with each field of the message that in has, if it has a
// length; what visit leaves of it is skipped.
func eachField(in *bufio.Reader, visit func(number uint64, value *io.LimitedReader) error) error {
	value := &io.LimitedReader{R: in}
	for {
		tag, err := binary.ReadUvarint(in)
		if errors.Is(err, io.EOF) { // nothing of another field
			return nil
		}
		length, err := binary.ReadUvarint(in)
		switch {
		case err != nil:
			return unexpected(err)
		case tag%8 == wireVarint:
			continue
		case tag%8 != wireBytes || length > math.MaxInt:
			return fmt.Errorf("no list as Kubernetes sends it: field %d of type %d", tag/8, tag%8)
		}
		value.N = int64(length)
		if err := visit(tag/8, value); err != nil {
			return unexpected(err)
		}
		if _, err := in.Discard(int(value.N)); err != nil {
			return unexpected(err)
		}
	}
}

// unexpected is err of a stream that may not end here.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
