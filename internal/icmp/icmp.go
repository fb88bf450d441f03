// Package icmp asks an address whether packets reach it, and their answers us.
// Every kernel answers; no program need run there.
package icmp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ICMP echo, of RFC 792 and RFC 4443 section 4.
const (
	echoRequest4, echoReply4 = 8, 0
	echoRequest6, echoReply6 = 128, 129
	icmpHeader               = 8
	ip4Header, ip6Header     = 20, 40
	retryEvery               = 500 * time.Millisecond
)

// A Way is where a packet is sent from, and where to.
type Way struct {
	From, To netip.Addr
	By       string // the link it leaves by; "": as the routes say
	// Known has what the kernel knows of the path count: it refuses with [unix.EMSGSIZE]
	// what it would cut otherwise, by the interface, the route, or what it learned,
	// which it does from the answer to the first question.
	Known bool
}

// Echo sends an unfragmentable packet of size bytes, IP header included, and
// waits for its answer until ctx's deadline, by whichever link that comes. It asks
// again twice a second.
func Echo(ctx context.Context, way Way, size int) error {
	to := way.To
	network, header := "ip4:icmp", ip4Header
	if to.Is6() {
		network, header = "ip6:ipv6-icmp", ip6Header
	}
	c, err := open(network, way, "")
	if err != nil {
		return err
	}
	defer c.Close()
	out := c
	if way.By != "" { // what comes back comes by any link
		if out, err = open(network, way, way.By); err != nil {
			return err
		}
		defer out.Close()
	}
	request := echoMessage(to, size-header)
	deadline, _ := ctx.Deadline()
	for time.Now().Before(deadline) && ctx.Err() == nil {
		if _, err := out.WriteTo(request, &net.IPAddr{IP: to.AsSlice()}); err != nil {
			return fmt.Errorf("send: %w", errors.Unwrap(err))
		}
		if err := c.SetReadDeadline(time.Now().Add(retryEvery)); err != nil {
			return err
		}
		if err := awaitReply(c, to, request); !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	return errors.New("no answer")
}

// open opens a socket of an address, and of a link if that is said. It sets DF, and
// unless what is known of the way is to count makes the kernel ignore it: the question is
// what the path carries now (ip(7), IP_MTU_DISCOVER; the values are those of IPv6 too).
func open(network string, way Way, link string) (net.PacketConn, error) {
	level, option, value := unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE
	if way.From.Is6() {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER
	}
	if way.Known {
		value = unix.IP_PMTUDISC_DO
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var set error
		err := raw.Control(func(fd uintptr) {
			set = syscall.SetsockoptInt(int(fd), level, option, value)
			if link != "" {
				set = errors.Join(set, unix.BindToDevice(int(fd), link))
			}
		})
		return errors.Join(err, set)
	}}
	c, err := config.ListenPacket(context.Background(), network, way.From.String())
	if err != nil {
		return nil, fmt.Errorf("open ICMP socket: %w", err)
	}
	return c, nil
}

func echoMessage(to netip.Addr, size int) []byte {
	m := make([]byte, max(size, icmpHeader+8))
	binary.BigEndian.PutUint32(m[4:], rand.Uint32()) // identifier and sequence number
	binary.BigEndian.PutUint64(m[8:], rand.Uint64())
	if to.Is6() {
		m[0] = echoRequest6 // the kernel fills in the checksum
		return m
	}
	m[0] = echoRequest4
	var sum uint32
	for i := 0; i+1 < len(m); i += 2 {
		sum += uint32(m[i])<<8 | uint32(m[i+1])
	}
	if len(m)%2 == 1 {
		sum += uint32(m[len(m)-1]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(m[2:], ^uint16(sum))
	return m
}

func awaitReply(c net.PacketConn, to netip.Addr, request []byte) error {
	want := byte(echoReply4)
	if to.Is6() {
		want = echoReply6
	}
	b := make([]byte, len(request)+ip4Header)
	for {
		n, _, err := c.ReadFrom(b)
		if err != nil {
			return err
		}
		if n == len(request) && b[0] == want && string(b[4:16]) == string(request[4:16]) {
			return nil
		}
	}
}
