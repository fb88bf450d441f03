// Package nfnl lists what nfnetlink knows (include/uapi/linux/netfilter/nfnetlink.h),
// as far as somebody wants to read on.
//
// Other people's rules may be many. A list is made by the kernel as it is read, so
// that one whose beginning says enough costs no more than its beginning.
package nfnl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// ErrChanged says that what is listed changed meanwhile; list it again.
var ErrChanged = errors.New("it changed while it was listed")

const (
	sizeofNfgenmsg = 4
	// buffer takes the largest piece of a list that the kernel makes.
	buffer = 1 << 16
)

// Get asks for one object, and returns its attributes.
func Get(msg uint16, family byte, attributes []byte) (object []byte, err error) {
	err = ask(request{msg, unix.NLM_F_REQUEST, family, attributes}, func(_ byte, a []byte) bool {
		object = slices.Clone(a)
		return false
	})
	return object, err
}

// List asks for objects of nftables of one family, or of all (AF_UNSPEC), with the
// given attributes, laid out, and visits each until visit returns false. What it is
// given is overwritten when it has returned.
func List(msg uint16, family byte, attributes []byte, visit func(family byte, attributes []byte) bool) error {
	return ask(request{msg, unix.NLM_F_REQUEST | unix.NLM_F_DUMP, family, attributes}, visit)
}

// A request is one message to nftables.
type request struct {
	msg, flags uint16
	family     byte
	attributes []byte
}

func ask(r request, visit func(byte, []byte) bool) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return fmt.Errorf("open nfnetlink: %w", err)
	}
	defer unix.Close(fd)
	if err := unix.Sendto(fd, r.bytes(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("ask nfnetlink: %w", err)
	}
	b := make([]byte, buffer)
	for {
		n, _, flags, from, err := unix.Recvmsg(fd, b, nil, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read nfnetlink: %w", err)
		}
		if k, ok := from.(*unix.SockaddrNetlink); !ok || k.Pid != 0 {
			continue // from no kernel
		}
		if flags&unix.MSG_TRUNC != 0 {
			return errors.New("read nfnetlink: a message does not fit")
		}
		if more, err := messages(b[:n], visit); !more || err != nil {
			return err
		}
	}
}

func (r request) bytes() []byte {
	size := unix.NLMSG_HDRLEN + sizeofNfgenmsg + len(r.attributes)
	b := binary.NativeEndian.AppendUint32(nil, uint32(size))
	b = binary.NativeEndian.AppendUint16(b, unix.NFNL_SUBSYS_NFTABLES<<8|r.msg)
	b = binary.NativeEndian.AppendUint16(b, r.flags)
	b = append(b, make([]byte, 8)...) // sequence and port: the socket has one request
	b = append(b, r.family, unix.NFNETLINK_V0, 0, 0)
	return append(b, r.attributes...)
}

// messages visits those in b and reports whether there is more to come.
func messages(b []byte, visit func(byte, []byte) bool) (more bool, err error) {
	for len(b) >= unix.NLMSG_HDRLEN {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.NLMSG_HDRLEN || size > len(b) {
			return false, errors.New("read nfnetlink: a message is cut short")
		}
		typ, flags, body := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:]), b[unix.NLMSG_HDRLEN:size]
		switch {
		case typ == unix.NLMSG_ERROR || typ == unix.NLMSG_DONE:
			return false, errorOf(body)
		case flags&unix.NLM_F_DUMP_INTR != 0:
			return false, ErrChanged
		case len(body) >= sizeofNfgenmsg && !visit(body[0], body[sizeofNfgenmsg:]):
			return false, nil
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	return true, nil
}

// errorOf is the error that begins an error message or the end of a list.
func errorOf(body []byte) error {
	if len(body) < 4 {
		return nil
	}
	if code := int32(binary.NativeEndian.Uint32(body)); code < 0 {
		return fmt.Errorf("list nftables: %w", unix.Errno(-code))
	}
	return nil
}

// String is an attribute that holds s, laid out.
func String(typ uint16, s string) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(s)+1))
	b = binary.NativeEndian.AppendUint16(b, typ)
	b = append(b, s...)
	b = append(b, 0)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// Each visits the attributes in b in order. One that is cut short ends the walk.
func Each(b []byte, visit func(typ uint16, body []byte)) {
	for len(b) >= 4 {
		size, typ := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
		if size < 4 || size > len(b) {
			return
		}
		visit(typ&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[4:size])
		b = b[min(len(b), (size+3)&^3):]
	}
}
