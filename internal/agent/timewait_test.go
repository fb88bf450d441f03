package agent

import (
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/feature/snat"
	"fairlead.dev/fairlead/internal/netnstest"
)

// While connections of pods take half of the ports towards a destination conntrack
// forgets closed ones soon, and as before when they are over, also where an agent
// began in between, and where pods' clocks are not asked to be one.
func TestConntrackForgetsSoonWhilePortsRunShort(t *testing.T) {
	const few = "apiVersion: fairlead.dev/v1alpha1\nkind: AgentConfig\nmetadata: {name: default}\nspec: {nodeSNATPortRange: 40000-40019%s}\n"
	n := newNode(t, nodes, fmt.Sprintf(few, ""))
	n.far.Address("eth0", "192.168.100.7/24")
	pod := netnstest.New(t)
	n.attach(t, "a", pod)
	n.mustTurn(t)
	is := func(want string) {
		t.Helper()
		n.host.Do(func() error {
			got, err := sysctl.Read(snat.TimeWaitKey)
			if got != want {
				t.Errorf("conntrack keeps closed connections for %s s, want %s", got, want)
			}
			return err
		})
	}
	is("120")
	n.watch(t)
	look := func() {
		t.Helper()
		n.pressureSeen(t)
		n.mustTurn(t)
	}
	l := listens(t, n.far, "192.168.100.7:7000")
	to := l.Addr().(interface{ AddrPort() netip.AddrPort }).AddrPort()
	var open []int
	for range 12 {
		pod.Do(func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			open = append(open, fd)
			return unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()})
		})
	}
	look()
	is("1")
	n.write(t, "objects.yaml", nodes+"\n---\n"+fmt.Sprintf(few, ", podTCPTimestamps: random"))
	look()
	is("120")
	n.write(t, "objects.yaml", nodes+"\n---\n"+fmt.Sprintf(few, ""))
	look()
	is("1")
	for _, fd := range open {
		must(t, unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
		must(t, unix.Close(fd))
	}
	n.restart(t)
	n.mustTurn(t)
	is("120")
}
