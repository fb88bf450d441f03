package datapath_test

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/link"
	"fairlead.dev/fairlead/internal/datapath/neigh"
	"fairlead.dev/fairlead/internal/datapath/route"
	"fairlead.dev/fairlead/internal/datapath/tc"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/netnstest"
)

const nodeAddress = "10.244.1.1"

// pod is the part of a pod with the given wire, namespace and address.
func pod(wire, netns string, addr netip.Addr) *datapath.Part {
	return &datapath.Part{
		Links: []*link.Link{{Name: wire, MTU: 1450, MAC: datapath.WireMAC, Veth: &link.Veth{Netns: netns, Peer: link.Peer{
			Name: "eth0", MAC: podMAC, Addresses: []netip.Addr{addr}, Gateways: []netip.Addr{netip.MustParseAddr(datapath.PodGateway4)},
		}}}},
		Neighbours: []neigh.Neighbour{{Link: wire, Addr: addr, MAC: podMAC}},
		Routes:     []route.Route{{Dst: netip.PrefixFrom(addr, 32), Link: wire}},
	}
}

// A pod receives and sends at the rate that it is held to, and another pod is not
// held. The figures are of payload, some 5 % less than of packets.
func TestPodsAreHeldToTheirRates(t *testing.T) {
	t.Parallel()
	const rate = 16e6
	for name, burst := range map[string]uint64{"a packet": tc.LeastBurst(1450), "half a large packet": 8 * 32e3, "large packets": 8 * 200e3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			node, held, free := netnstest.New(t), netnstest.New(t), netnstest.New(t)
			node.Address("lo", nodeAddress+"/32")
			const wire = "fl-00000000000a"
			addr, other := netip.MustParseAddr("10.244.1.2"), netip.MustParseAddr("10.244.1.3")
			p, q := pod(wire, held.Path, addr), pod("fl-00000000000b", free.Path, other)
			ifb := datapath.IFBLink(wire)
			p.Links = append(p.Links, &link.Link{Name: ifb, MTU: 1450, MAC: datapath.WireMAC, IFB: true})
			p.Shapers = []tc.Shaper{{Link: wire, Rate: rate, Burst: burst}, {Link: ifb, Rate: rate, Burst: burst}}
			p.Redirects = []tc.Redirect{{Link: wire, To: ifb}}
			apply(node, datapath.State{p, q})
			for _, way := range []struct {
				name     string
				from, to *netnstest.Host
				addr     string
			}{
				{"receives", node, held, addr.String()},
				{"sends", held, node, nodeAddress},
			} {
				freely := make(chan float64, 1)
				go func() { freely <- throughput(t, node, free, other.String()) }()
				got := 0.0
				for range 5 { // a busy machine may not let it come to its rate at once
					if got = throughput(t, way.from, way.to, way.addr); got > 0.75*rate {
						break
					}
				}
				unheld := <-freely
				t.Logf("burst %d bytes: the held pod %s %.1f Mbit/s of %.0f; another meanwhile receives %.0f", burst/8, way.name, got/1e6, rate/1e6, unheld/1e6)
				if got > 1.25*rate || got < 0.75*rate {
					t.Errorf("it %s %.1f Mbit/s, held to %.0f", way.name, got/1e6, rate/1e6)
				}
				if unheld < 5*rate {
					t.Errorf("another pod is held too: %.1f Mbit/s", unheld/1e6)
				}
			}
			if left := diff(node, datapath.State{p, q}); !left.Empty() {
				t.Errorf("still to do:\n%s", left)
			}
		})
	}
}

// connect makes a TCP connection between hosts.
func connect(t *testing.T, from, to *netnstest.Host, addr string) (out, in net.Conn) {
	t.Helper()
	var l net.Listener
	err := netns.Do(to.Path, func() (err error) { l, err = net.Listen("tcp", addr+":0"); return err })
	if err == nil {
		defer l.Close()
		err = netns.Do(from.Path, func() (err error) { out, err = net.Dial("tcp", l.Addr().String()); return err })
	}
	if err == nil {
		in, err = l.Accept()
	}
	if err != nil {
		t.Error(err)
	}
	return out, in
}

// throughput is the bits a second of payload that get from one host to the other,
// once the first burst is over.
func throughput(t *testing.T, from, to *netnstest.Host, addr string) float64 {
	t.Helper()
	const warm, measured = 1 << 20, 4 << 20
	out, in := connect(t, from, to, addr)
	defer in.Close()
	go func() {
		defer out.Close()
		_, _ = io.CopyN(out, zeros{}, warm+measured+1<<20) // until in is closed
	}()
	if _, err := io.CopyN(io.Discard, in, warm); err != nil {
		t.Error(err)
	}
	began := time.Now()
	if _, err := io.CopyN(io.Discard, in, measured); err != nil {
		t.Error(err)
	}
	return 8 * measured / time.Since(began).Seconds()
}

// zeros is an endless file.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }
