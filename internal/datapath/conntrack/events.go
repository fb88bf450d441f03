package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Groups of ctnetlink's events (include/uapi/linux/netfilter/nfnetlink.h, enum
// nfnetlink_groups), and the message of those that are in them.
const (
	groupNew     = 1
	groupUpdate  = 2
	groupDestroy = 3

	msgNew = 0 // or changed
)

// An Event is what became of a connection.
type Event struct {
	Entry
	Turn Turn
}

// A Turn is what happened to an entry.
type Turn byte

// Of an entry that changed there is only what did: a state where that is new.
const (
	Began Turn = iota
	Changed
	Ended
)

// Events hears of connections that come, change and go, in the network namespace
// of the thread that called OpenEvents. It is deaf until it listens, and the
// kernel makes events for nobody: where net.netfilter.nf_conntrack_events is 2,
// connections that came meanwhile have none either. It is for one goroutine at a
// time.
type Events struct {
	fd     int
	buffer []byte
	event  Event
}

// eventsBuffer is what may wait to be read: some thousands of events, which
// come in bursts.
const eventsBuffer = 4 << 20

// eventSize is larger than any event.
const eventSize = 8 << 10

// OpenEvents prepares to listen. A read takes at most as long as given.
func OpenEvents(patience time.Duration) (*Events, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("hear of connections: %w", os.NewSyscallError("socket", err))
	}
	timeout := unix.NsecToTimeval(int64(patience))
	err = errors.Join(
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, eventsBuffer),
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("hear of connections: %w", err), unix.Close(fd))
	}
	return &Events{fd: fd, buffer: make([]byte, eventSize)}, nil
}

// Close closes the socket.
func (e *Events) Close() error { return unix.Close(e.fd) }

// Listen begins to hear.
func (e *Events) Listen() error { return e.membership(unix.NETLINK_ADD_MEMBERSHIP) }

// Ignore hears no more, and throws away what was not read.
func (e *Events) Ignore() error {
	if err := e.membership(unix.NETLINK_DROP_MEMBERSHIP); err != nil {
		return err
	}
	for {
		_, _, err := unix.Recvfrom(e.fd, e.buffer, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case err != nil && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENOBUFS):
			return os.NewSyscallError("recvfrom", err)
		}
	}
}

func (e *Events) membership(option int) error {
	var errs error
	for _, group := range []int{groupNew, groupUpdate, groupDestroy} {
		errs = errors.Join(errs, os.NewSyscallError("setsockopt", unix.SetsockoptInt(e.fd, unix.SOL_NETLINK, option, group)))
	}
	return errs
}

// What Read may fail with, and go on.
var (
	ErrQuiet   = errors.New("nothing happened")
	ErrOverrun = errors.New("more happened than could be read")
)

// Read waits for an event, and calls visit with it and with all that can be read
// at once, until visit has enough. An event is good until visit returns.
func (e *Events) Read(visit func(*Event) (more bool)) error {
	for flags := 0; ; flags = unix.MSG_DONTWAIT {
		n, _, err := unix.Recvfrom(e.fd, e.buffer, flags)
		switch {
		case errors.Is(err, unix.EAGAIN) && flags != 0:
			return nil
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
			return ErrQuiet
		case errors.Is(err, unix.ENOBUFS):
			return ErrOverrun
		case err != nil:
			return os.NewSyscallError("recvfrom", err)
		}
		more, err := e.event.each(e.buffer[:n], visit)
		if err != nil || !more {
			return err
		}
	}
}

// each calls visit with each event in b, until it has enough. What is no event
// is passed over.
func (e *Event) each(b []byte, visit func(*Event) bool) (more bool, err error) {
	for len(b) > 0 {
		m, rest, err := nextMessage(b)
		if err != nil {
			return false, err
		}
		if turn, ok := turnOf(m.kind, binary.NativeEndian.Uint16(b[6:])); ok {
			e.Turn = turn
			if err := e.parse(m.body); err != nil {
				return false, err
			}
			if !visit(e) {
				return false, nil
			}
		}
		b = rest
	}
	return true, nil
}

func turnOf(kind, flags uint16) (Turn, bool) {
	switch {
	case kind == unix.NFNL_SUBSYS_CTNETLINK<<8|msgDelete:
		return Ended, true
	case kind != unix.NFNL_SUBSYS_CTNETLINK<<8|msgNew:
		return 0, false
	case flags&unix.NLM_F_CREATE != 0:
		return Began, true
	default:
		return Changed, true
	}
}
