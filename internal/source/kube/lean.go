package kube

import (
	"encoding/binary"
	"errors"
)

// keep says which fields of a message count, by their numbers, and of those what
// counts in turn; nil: all of it. Of a pod that is a tenth: decoding the rest, and
// collecting what becomes of it, would take most of an agent's start.
type keep map[uint64]keep

// What counts of the objects of which there are many. The numbers are those of
// k8s.io/api/core/v1/generated.proto; TestWhatIsKeptIsAllThatCounts holds them to
// what the parsers look at.
var (
	keepOfPods = keep{
		1: {1: nil, 3: nil, 5: nil, 11: nil, 12: nil},                    // metadata: name, namespace, uid, labels, annotations
		2: {2: keepOfContainers, 10: nil, 11: nil, 20: keepOfContainers}, // spec: containers, nodeName, hostNetwork, initContainers
		3: {1: nil, 6: nil, 12: nil},                                     // status: phase, podIP, podIPs
	}
	keepOfContainers = keep{6: nil, 24: nil} // ports, restartPolicy
	keepOfNodes      = keep{
		1: {1: nil, 8: nil}, // metadata: name, creationTimestamp
		2: {1: nil, 7: nil}, // spec: podCIDR, podCIDRs
		3: {5: nil},         // status: addresses
	}
)

var errMalformed = errors.New("an object is no protobuf")

// lean appends to a buffer what counts of a message.
func lean(to, message []byte, k keep) ([]byte, error) {
	for len(message) > 0 {
		tag, n := binary.Uvarint(message)
		if n <= 0 {
			return nil, errMalformed
		}
		size, head, err := sizeOf(message[n:], tag%8)
		if err != nil {
			return nil, err
		}
		field := message[:n+head+size]
		message = message[len(field):]
		inner, kept := k[tag/8]
		switch {
		case !kept:
		case inner == nil || tag%8 != wireBytes:
			to = append(to, field...)
		default:
			if to, err = leanField(to, field[:n], field[n+head:], inner); err != nil {
				return nil, err
			}
		}
	}
	return to, nil
}

// leanField appends a field of which only a part counts. Its length is known only
// afterwards: it gets as much room as the longest would take.
func leanField(to, tag, value []byte, k keep) ([]byte, error) {
	to = append(to, tag...)
	at := len(to)
	to, err := lean(append(to, 0x80, 0x80, 0x80, 0), value, k)
	if err != nil {
		return nil, err
	}
	length := len(to) - at - 4
	for i := range 4 { // mostItem is shorter than four times seven bits
		to[at+i] |= byte(length>>(7*i)) & 0x7f
	}
	return to, nil
}

// sizeOf is how many bytes a field has behind its tag: of its value, and before
// that of its length.
func sizeOf(b []byte, wire uint64) (size, head int, err error) {
	switch wire {
	case wireVarint:
		_, size = binary.Uvarint(b)
	case wireFixed64:
		size = 8
	case wireFixed32:
		size = 4
	case wireBytes:
		var length uint64
		if length, head = binary.Uvarint(b); head <= 0 || length > uint64(len(b)) {
			return 0, 0, errMalformed
		}
		size = int(length)
	default:
		return 0, 0, errMalformed
	}
	if size < 0 || wire == wireVarint && size == 0 || head+size > len(b) {
		return 0, 0, errMalformed
	}
	return size, head, nil
}
