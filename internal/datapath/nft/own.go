package nft

import (
	"errors"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// signed are the ports of sockets that have sent a transaction of ours.
var signed sync.Map

// signedFor is how long announcements of a transaction may wait to be read. While
// its socket is open, no other in the namespace has its port.
const signedFor = time.Second

// sign notes that c sends for us. The function that it returns ends c, a while
// after it is called.
func sign(c *netlink.Conn) (end func()) {
	port, err := portOf(c)
	if err != nil {
		return func() { c.Close() } // what is announced will be looked at
	}
	signed.Store(port, true)
	return func() {
		time.AfterFunc(signedFor, func() {
			signed.Delete(port)
			c.Close()
		})
	}
}

// portOf is the port by which the kernel knows a socket (netlink(7)).
func portOf(c *netlink.Conn) (port uint32, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var name unix.Sockaddr
	e := raw.Control(func(fd uintptr) { name, err = unix.Getsockname(int(fd)) })
	if err = errors.Join(e, err); err != nil {
		return 0, err
	}
	n, ok := name.(*unix.SockaddrNetlink)
	if !ok {
		return 0, unix.EAFNOSUPPORT
	}
	return n.Pid, nil
}

// Announced reports whether an announcement of nftables is of what this process
// did itself a moment ago: the kernel signs it with the port of the socket that
// asked for it (nf_tables_commit of net/netfilter/nf_tables_api.c).
func Announced(m netlink.Message) bool {
	_, ok := signed.Load(m.Header.PID)
	return ok
}
