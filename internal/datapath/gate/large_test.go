package gate_test

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/gate"
)

// Large packets, which are not in one piece of memory, are known by their addresses
// like any other.
func TestLargePacketsMeetTheGate(t *testing.T) {
	t.Parallel()
	const neighbour = "10.244.1.3"
	d := newDoor(t, ofPod())
	d.node.Address(d.wire, "169.254.1.1/32")
	d.pod.Address("eth0", own4+"/32", neighbour+"/32")
	d.pod.Route("169.254.1.1/32", "eth0")
	d.node.Route(own4+"/32", d.wire)
	if n := sentFile(t, d); n != 8<<20 {
		t.Errorf("%d bytes come", n)
	}
	if got := d.counts(); got != (gate.Counts{}) {
		t.Errorf("refused %v", got)
	}
	d.pod.Do(func() error { return inSegments(own4) })
	if got := d.counts(); got != (gate.Counts{}) {
		t.Errorf("refused %v", got)
	}
	d.drain()
	d.pod.Do(func() error { return errors.Join(pin(), inSegments(neighbour), d.send(probe(1))) })
	d.waits(unix.ETH_P_ARP, within)
	if got := d.counts(); got[gate.Forged] != 1 {
		t.Errorf("of one large packet of another's are refused %v", got)
	}
}

// sentFile sends a file from the pod to the node (sendfile(2)), and returns how much
// comes.
func sentFile(t *testing.T, d *door) int64 {
	t.Helper()
	path := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(path, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var l net.Listener
	d.node.Do(func() (err error) { l, err = net.Listen("tcp4", "169.254.1.1:4242"); return err })
	defer l.Close()
	var out net.Conn
	d.pod.Do(func() (err error) {
		from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(own4)}, Timeout: within}
		out, err = from.Dial("tcp4", l.Addr().String())
		return err
	})
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(out, f)
		sent <- errors.Join(err, out.Close())
	}()
	err = in.SetReadDeadline(time.Now().Add(within))
	n, failed := io.Copy(io.Discard, in)
	if err := errors.Join(err, failed, <-sent); err != nil {
		t.Fatal(err)
	}
	return n
}

// inSegments sends from the address one packet that stands for many datagrams
// (UDP_SEGMENT of udp(7)).
func inSegments(from string) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	const datagram, datagrams = 1000, 60
	return errors.Join(unix.Bind(s, &unix.SockaddrInet4{Addr: [4]byte(net.ParseIP(from).To4())}),
		unix.SetsockoptInt(s, unix.SOL_UDP, unix.UDP_SEGMENT, datagram),
		unix.Sendto(s, make([]byte, datagram*datagrams), 0, &unix.SockaddrInet4{Addr: [4]byte{169, 254, 1, 1}, Port: 4243}),
		unix.Close(s))
}

// BenchmarkGate is what a packet costs at a gate.
func BenchmarkGate(b *testing.B) {
	for name, g := range gates {
		p, err := gate.Load(g)
		if err != nil {
			b.Fatal(err)
		}
		for family, frame := range map[string][]byte{"IPv4": ether(rightful4, typ4), "IPv6": ether(rightful6, typ6)} {
			b.Run(name+" "+family, func(b *testing.B) {
				_, took, err := p.Benchmark(frame, b.N, b.ResetTimer)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(took.Nanoseconds()), "ns/packet")
			})
		}
		if err := p.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
