package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// A Table is an open look into the connection table of one network namespace:
// that of the thread that called Open. Socket and buffer stay, so that a look is
// a few system calls and allocates nothing. It is for one goroutine at a time.
type Table struct {
	fd       int
	sequence uint32
	dumping  bool
	request  []byte
	replies  []byte
	entry    Entry
}

// Sizes of the buffers. The kernel fills a dump's answers up to the size that
// the reader asks for, and up to 32 KiB (net/netlink/af_netlink.c,
// netlink_recvmsg).
const (
	requestSize = 256
	repliesSize = 32 << 10
)

// patience is how long an answer may take. The kernel answers at once; a reader
// that waits for good would be worse than an error.
const patience = 10 * time.Second

// Open opens the connection table of the calling thread's network namespace.
func Open() (*Table, error) {
	t := &Table{request: make([]byte, 0, requestSize), replies: make([]byte, repliesSize)}
	if err := t.connect(); err != nil {
		return nil, fmt.Errorf("open conntrack: %w", err)
	}
	return t, nil
}

func (t *Table) connect() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	timeout := unix.NsecToTimeval(int64(patience))
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
		unix.Connect(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})) // to the kernel
	if err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	t.fd = fd
	return nil
}

// reopen ends an answer that is not wanted any more: the kernel knows no other
// way. The calling thread must be in the namespace where it called Open.
func (t *Table) reopen() error {
	if err := unix.Close(t.fd); err != nil {
		return err
	}
	return t.connect()
}

// Close closes the socket.
func (t *Table) Close() error { return unix.Close(t.fd) }

// Messages of ctnetlink, and what is asked with them
// (include/uapi/linux/netfilter/nfnetlink_conntrack.h, enum cntl_msg_types).
const (
	msgGet         = 1
	msgGetStatsCPU = 4
	msgGetStats    = 5
)

const (
	netlinkHeader   = unix.SizeofNlMsghdr
	netfilterHeader = 4 // struct nfgenmsg
)

// ask begins a request. Attributes are appended to t.request before it is sent.
func (t *Table) ask(message, flags uint16, family byte) {
	t.sequence++
	t.dumping = flags&unix.NLM_F_DUMP != 0
	b := t.request[:netlinkHeader]
	clear(b)
	binary.NativeEndian.PutUint16(b[4:], unix.NFNL_SUBSYS_CTNETLINK<<8|message)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|flags)
	binary.NativeEndian.PutUint32(b[8:], t.sequence)
	t.request = append(b, family, unix.NFNETLINK_V0, 0, 0)
}

// send sends the request and calls visit with the body of every answer. A dump
// ends with a message of its own, another request with the first answer.
func (t *Table) send(visit func(body []byte) error) error {
	binary.NativeEndian.PutUint32(t.request, uint32(len(t.request)))
	if _, err := unix.Write(t.fd, t.request); err != nil {
		return os.NewSyscallError("write", err)
	}
	var failed error
	for {
		n, err := t.receive()
		if err != nil {
			return err
		}
		for b := t.replies[:n]; len(b) > 0; {
			m, rest, err := nextMessage(b)
			if err != nil {
				return err
			}
			b = rest
			switch {
			case m.sequence != t.sequence:
				continue // of an earlier request that failed halfway
			case m.kind == unix.NLMSG_ERROR || m.kind == unix.NLMSG_DONE:
				return errors.Join(failed, m.status())
			case failed == nil:
				if failed = visit(m.body); errors.Is(failed, errEnough) {
					return failed
				}
			}
			if !t.dumping { // no matter what NLM_F_MULTI says: it is set on the one answer to GET_STATS
				return failed
			}
		}
	}
}

func (t *Table) receive() (int, error) {
	for {
		n, err := unix.Read(t.fd, t.replies)
		if !errors.Is(err, unix.EINTR) {
			return n, os.NewSyscallError("read", err)
		}
	}
}

// A message is one netlink message (RFC 3549 section 2.3.2).
type message struct {
	kind     uint16
	sequence uint32
	body     []byte
}

func nextMessage(b []byte) (m message, rest []byte, err error) {
	if len(b) < netlinkHeader {
		return m, nil, fmt.Errorf("conntrack: %d bytes are no netlink message", len(b))
	}
	size := int(binary.NativeEndian.Uint32(b))
	if size < netlinkHeader || size > len(b) {
		return m, nil, fmt.Errorf("conntrack: a netlink message of %d bytes in %d", size, len(b))
	}
	m = message{
		kind:     binary.NativeEndian.Uint16(b[4:]),
		sequence: binary.NativeEndian.Uint32(b[8:]),
		body:     b[netlinkHeader:size],
	}
	return m, b[min(len(b), align(size)):], nil
}

// status is the error that ends an answer, if one does.
func (m message) status() error {
	if len(m.body) < 4 {
		return nil
	}
	if code := int32(binary.NativeEndian.Uint32(m.body)); code < 0 {
		return fmt.Errorf("conntrack: %w", unix.Errno(-code))
	}
	return nil
}

// attributes yields every attribute's type, without its flags, and its value.
// What is cut off at the end is left out.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofNlAttr {
			size := int(binary.NativeEndian.Uint16(b))
			if size < unix.SizeofNlAttr || size > len(b) {
				return
			}
			if !yield(binary.NativeEndian.Uint16(b[2:])&attributeType, b[unix.SizeofNlAttr:size]) {
				return
			}
			b = b[min(len(b), align(size)):]
		}
	}
}

// attributeType leaves out the flags of an attribute's type (NLA_TYPE_MASK).
const attributeType = 1<<14 - 1

func align(n int) int { return (n + 3) &^ 3 }
