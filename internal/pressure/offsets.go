package pressure

import (
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/netns"
)

// kernelOffsets is what ProbeOffsets finds, which stays as it is while the kernel
// runs.
var kernelOffsets = sync.OnceValues(ProbeOffsets)

// ProbeOffsets finds out, in a namespace that goes again, whether the kernel's TCP
// timestamps depend on ports: two connections of one address to one port have
// timestamps that are apart by more than the time between them (Linux
// net/core/secure_seq.c, secure_tcp_ts_off). Without offsets (tcp_timestamps is
// 2) there must be no such thing; else the answer proves nothing.
func ProbeOffsets() (byPort bool, err error) {
	err = netns.Scratch(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			return err
		}
		without, err := offsetsDiffer("2")
		if err != nil {
			return err
		}
		if without {
			return errors.New("timestamps of two connections differ although they should have no offsets: the test proves nothing")
		}
		byPort, err = offsetsDiffer("1")
		return err
	})
	if err != nil {
		err = fmt.Errorf("probe TCP timestamps: %w", err)
	}
	return byPort, err
}

// offsetsDiffer reports whether two connections from one address to one port have
// other offsets, with the given net.ipv4.tcp_timestamps.
func offsetsDiffer(timestamps string) (bool, error) {
	if err := sysctl.Apply(sysctl.Setting{Key: "net/ipv4/tcp_timestamps", Value: timestamps}); err != nil {
		return false, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return false, err
	}
	defer l.Close()
	a, err := offset(l.Addr().String())
	if err != nil {
		return false, err
	}
	b, err := offset(l.Addr().String())
	apart := int32(b - a)
	return apart < -tolerance || apart > tolerance, err
}

// tolerance is milliseconds that may pass between two looks at one clock. Two
// offsets of 32 bits are that close once in a million times.
const tolerance = 2000

// offset is what is between a new connection's timestamps and the clock.
func offset(to string) (ms uint32, err error) {
	c, err := net.Dial("tcp", to)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		var now unix.Timespec
		if failed = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); failed != nil {
			return
		}
		var stamp int
		stamp, failed = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_TIMESTAMP)
		ms = uint32(stamp) - uint32(time.Duration(now.Nano()).Milliseconds())
	})
	return ms, errors.Join(err, failed)
}
