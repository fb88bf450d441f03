// Package rtnl is a conversation with the kernel about neighbours, routes and
// queueing (rtnetlink(7)), many requests at a time.
//
// What is asked for by the thousand, an entry or two for each peer, costs one
// system call per some hundred requests; each is still made or refused by itself.
// Links are known to the kernel by index and to us by name; the conversation
// remembers which is which for as long as it lasts.
package rtnl

import (
	"errors"
	"fmt"
	"strings"

	"github.com/mdlayher/netlink"
	vnl "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A Conn is a conversation about the calling thread's network namespace.
type Conn struct {
	nl    *netlink.Conn
	ioctl int // a socket for questions that need no lock in the kernel
	index map[string]int
	name  map[int]string
}

const (
	// atOnce requests are sent together. Should all be refused, the answers fit
	// the buffer.
	atOnce       = 256
	answerBuffer = 1 << 20
	// messageBuffer takes the largest piece of a list that the kernel makes.
	messageBuffer = 1 << 16
)

// Dial begins a conversation.
func Dial() (*Conn, error) {
	nl, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{MessageBufferSize: messageBuffer})
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	// Best effort: older kernels explain less and list more.
	_ = nl.SetOption(netlink.ExtendedAcknowledge, true)
	_ = nl.SetOption(netlink.GetStrictCheck, true)
	c := &Conn{nl: nl, index: map[string]int{}, name: map[int]string{}}
	c.ioctl, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = nl.SetReadBuffer(answerBuffer)
	}
	if err != nil {
		nl.Close()
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	return c, nil
}

// Close ends the conversation.
func (c *Conn) Close() {
	c.nl.Close()
	unix.Close(c.ioctl)
}

// Index returns the index of the named link, or ENODEV.
func (c *Conn) Index(link string) (int, error) {
	if i, known := c.index[link]; known {
		return i, nil
	}
	q, err := unix.NewIfreq(link)
	if err != nil {
		return 0, unix.ENODEV // too long a name for a link
	}
	if err := unix.IoctlIfreq(c.ioctl, unix.SIOCGIFINDEX, q); err != nil {
		return 0, err
	}
	c.index[link] = int(q.Uint32())
	return c.index[link], nil
}

// Name returns the name of the link with the given index; "" where there is none.
func (c *Conn) Name(index int) string {
	if name, known := c.name[index]; known {
		return name
	}
	var q unix.Ifreq
	q.SetUint32(uint32(index))
	if unix.IoctlIfreq(c.ioctl, unix.SIOCGIFNAME, &q) == nil {
		c.name[index] = q.Name()
	} else {
		c.name[index] = ""
	}
	return c.name[index]
}

// A Change is one request to change something.
type Change interface {
	// String is the request as a command.
	String() string
	// Message is the request as rtnetlink(7) has it.
	Message(*Conn) (netlink.Message, error)
	// Refused says what a refusal means: nil, if all is as wanted anyway. It may
	// ask for something else instead.
	Refused(*Conn, error) error
}

// Make asks for all changes, in order. The errors are by position.
func (c *Conn) Make(changes []Change) []error {
	errs := make([]error, len(changes))
	for from := 0; from < len(changes); from += atOnce {
		to := min(from+atOnce, len(changes))
		c.makeSome(changes[from:to], errs[from:to])
	}
	return errs
}

func (c *Conn) makeSome(changes []Change, errs []error) {
	messages := make([]netlink.Message, 0, len(changes))
	of := make([]int, 0, len(changes)) // the position of each message's change
	for i, change := range changes {
		m, err := change.Message(c)
		if err != nil {
			errs[i] = err
			continue
		}
		messages, of = append(messages, m), append(of, i)
	}
	for i, err := range c.Send(messages) {
		errs[of[i]] = err
	}
	for i, err := range errs {
		if err == nil {
			continue
		}
		if err = changes[i].Refused(c, err); err != nil {
			err = fmt.Errorf("%s: %w", changes[i], err)
		}
		errs[i] = err
	}
}

// Send sends requests together. The kernel works on them in order and answers
// those that it refuses, and the last; the errors are by position.
func (c *Conn) Send(messages []netlink.Message) []error {
	errs := make([]error, len(messages))
	if len(messages) == 0 {
		return errs
	}
	for i := range messages {
		messages[i].Header.Flags |= netlink.Request
	}
	last := uint32(len(messages) - 1)
	messages[last].Header.Flags |= netlink.Acknowledge
	sent, err := c.nl.SendMessages(messages)
	if err != nil {
		return fill(errs, err)
	}
	for first := sent[0].Header.Sequence; ; {
		answers, err := c.nl.Receive()
		var refusal *netlink.OpError
		var sequence uint32
		switch {
		case err == nil && len(answers) > 0:
			sequence = answers[0].Header.Sequence
		case errors.As(err, &refusal) && refusal.Sequence != 0:
			sequence = refusal.Sequence
		case err != nil: // answers were lost
			return fill(errs, err)
		}
		i := sequence - first
		if i <= last && err != nil {
			errs[i] = plain(refusal)
		}
		if i == last {
			return errs
		}
	}
}

// fill is for requests of which nothing is known any more.
func fill(errs []error, err error) []error {
	for i := range errs {
		if errs[i] == nil {
			errs[i] = err
		}
	}
	return errs
}

// plain is the kernel's own words where it has any, without netlink's frame.
func plain(refusal *netlink.OpError) error {
	if refusal.Message != "" {
		return fmt.Errorf("%w: %s", refusal.Err, strings.TrimSpace(refusal.Message))
	}
	return refusal.Err
}

// Ask returns the one answer to a request for something.
func (c *Conn) Ask(request netlink.Message) ([]byte, error) {
	request.Header.Flags |= netlink.Request
	answers, err := c.nl.Execute(request)
	var refusal *netlink.OpError
	switch {
	case errors.As(err, &refusal):
		return nil, plain(refusal)
	case err == nil && len(answers) != 1:
		err = fmt.Errorf("%d answers", len(answers))
	}
	if err != nil {
		return nil, err
	}
	return answers[0].Data, nil
}

// List calls visit with each answer to a request for a list. The error of a list
// that changed while it was made is vnl.ErrDumpInterrupted.
func (c *Conn) List(request netlink.Message, visit func([]byte)) error {
	request.Header.Flags |= netlink.Request | netlink.Dump
	if _, err := c.nl.Send(request); err != nil {
		return err
	}
	for a, err := range c.nl.ReceiveIter() {
		if err != nil {
			return err
		}
		if a.Header.Flags&unix.NLM_F_DUMP_INTR != 0 {
			return vnl.ErrDumpInterrupted
		}
		visit(a.Data)
	}
	return nil
}
