package guard_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/netnstest"
)

// advertisement says that its sender is the router of the network for half an hour
// (RFC 4861 section 4.2).
func advertisement(from netip.Addr) []byte {
	to := netip.MustParseAddr("ff02::1")
	body := []byte{134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0}
	pseudo := slices.Concat(from.AsSlice(), to.AsSlice(), []byte{0, 0, 0, byte(len(body)), 0, 0, 0, unix.IPPROTO_ICMPV6}, body)
	binary.BigEndian.PutUint16(body[2:], checksum(pseudo))
	return ip(from, to, unix.IPPROTO_ICMPV6, body)
}

// advertise sends one from the host's eth0.
func advertise(h *netnstest.Host, from netip.Addr) {
	h.Do(func() error {
		i, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		typ := uint16(unix.ETH_P_IPV6>>8 | unix.ETH_P_IPV6&0xff<<8) // network order
		err = unix.Sendto(fd, advertisement(from), 0, &unix.SockaddrLinklayer{Protocol: typ, Ifindex: i.Index, Halen: 6, Addr: [8]byte{0x33, 0x33, 0, 0, 0, 1}})
		return errors.Join(err, unix.Close(fd))
	})
}

// No pod is the node's router, guarded or not, whatever new interfaces believe.
func TestNoPodIsTheNodesRouter(t *testing.T) {
	onEachKernel(t, func(t *testing.T, k kind) {
		for _, guarded := range []bool{true, false} {
			t.Run(fmt.Sprintf("guarded %v", guarded), func(t *testing.T) {
				t.Parallel()
				n := k.node(t, 1)
				n.Wire(netnstest.New(t), "eth0")
				n.Sysctl("net/ipv6/conf/default/accept_ra", "2")
				p := n.NewPod()
				n.Apply(v1alpha1.AgentConfigSpec{Features: map[string]bool{"guard": guarded}})
				heard := listen(t, n.Host)
				advertise(p.Host, netip.MustParseAddr("fe80::bad"))
				own, err := netip.ParsePrefix(strings.Fields(p.Run("ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "link"))[3])
				if err != nil {
					t.Fatal(err)
				}
				advertise(p.Host, own.Addr())
				forge(p.Host, p.Addresses[1], n.Addresses[1], last)
				heardUntilLast(t, heard)
				if routes := n.Run("ip", "-6", "route", "show", "default"); routes != "" {
					t.Errorf("the node has a default route of the pod's: %s", routes)
				}
			})
		}
	})
}
