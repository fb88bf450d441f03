package pressure

import (
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/conntrack"
)

// A Destination is what connections must not share a port towards: the ports of
// an address are there once for each.
type Destination struct {
	Source   netip.Addr     `json:"source"` // the address that connections are given
	Ports    Ports          `json:"ports"`  // that they may be given: the range, or one pod's block
	Protocol Protocol       `json:"protocol"`
	To       netip.AddrPort `json:"destination"` // port 0 of ICMP
}

// Ports is an inclusive range.
type Ports struct {
	Low  uint16 `json:"low"`
	High uint16 `json:"high"`
}

func (p Ports) size() int { return int(p.High) - int(p.Low) + 1 }

func (p Ports) contains(port uint16) bool { return p.Low <= port && port <= p.High }

// String is the destination for people: "tcp 198.51.100.10:443 from 192.0.2.1,
// ports 32768-60999".
func (d Destination) String() string {
	return fmt.Sprintf("%s from %s, ports %d-%d", d.Target(), d.Source, d.Ports.Low, d.Ports.High)
}

// Target is what is at the far end: "tcp 198.51.100.10:443", "icmp 198.51.100.10".
func (d Destination) Target() string {
	if d.To.Port() == 0 {
		return fmt.Sprintf("%s %s", d.Protocol, d.To.Addr())
	}
	return fmt.Sprintf("%s %s", d.Protocol, d.To)
}

// A Protocol is an IANA number.
type Protocol byte

// names are the protocols whose ports, or identifiers, source NAT chooses.
var names = map[Protocol]string{
	unix.IPPROTO_TCP: "tcp", unix.IPPROTO_UDP: "udp", unix.IPPROTO_SCTP: "sctp",
	unix.IPPROTO_ICMP: "icmp", unix.IPPROTO_ICMPV6: "icmpv6",
}

// String is the protocol's name, or its number where it has none here.
func (p Protocol) String() string {
	if name, ok := names[p]; ok {
		return name
	}
	return fmt.Sprint(byte(p))
}

// MarshalText writes the protocol as String does.
func (p Protocol) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (p *Protocol) UnmarshalText(text []byte) error {
	for number, name := range names {
		if name == string(text) {
			*p = number
			return nil
		}
	}
	n, err := strconv.ParseUint(string(text), 10, 8)
	*p = Protocol(n)
	return err
}

// A Fill is how many source ports a destination takes.
type Fill struct {
	Destination
	Used    int `json:"used"`
	Waiting int `json:"waiting"` // of them, by TCP connections that both sides have closed
	Size    int `json:"size"`    // all ports
}

// String is the fill for people.
func (f Fill) String() string {
	s := fmt.Sprintf("%d of %d are in use (%d %%)", f.Used, f.Size, f.Used*100/f.Size)
	if f.Waiting > 0 {
		s += fmt.Sprintf(", %d of them by closed connections", f.Waiting)
	}
	return s
}

// Ratio is the part of the ports that is in use.
func (f Fill) Ratio() float64 { return float64(f.Used) / float64(f.Size) }

// Status is what a Watch has seen.
type Status struct {
	At         time.Time       `json:"at"` // when the counters were read; zero: never
	Conntrack  conntrack.Stats `json:"conntrack"`
	LastMinute Growth          `json:"lastMinute"`
	Fullest    []Fill          `json:"fullest"` // the fullest destinations, at most ten
	Listed     Listed          `json:"listed"`
	Ratios     Ratios          `json:"ratios"`
	Histogram  *Histogram      `json:"histogram,omitempty"` // of the fullest destination, where it was examined
	Waits      Waits           `json:"waits"`
	CPU        CPU             `json:"cpu"`
}

// Ratios is how full the fullest destination of each protocol with ports is.
type Ratios map[Protocol]float64

// Growth is by how much the counters of trouble grew.
type Growth struct {
	InsertFailed  uint64 `json:"insertFailed"`
	Drop          uint64 `json:"drop"`
	EarlyDrop     uint64 `json:"earlyDrop"`
	ClashResolve  uint64 `json:"clashResolve"`
	SearchRestart uint64 `json:"searchRestart"`
}

// Listed says on what the fills stand: all entries of the table, or a sample.
type Listed struct {
	At      time.Time `json:"at"`
	Entries int       `json:"entries"` // looked at
	Of      int       `json:"of"`      // that there were
}

// Slices is the number of parts of a Histogram.
const Slices = 64

// A Histogram is how many ports are in use in each part of a destination's. The
// n-th part begins at port Low + n*Size/Slices, rounded up.
type Histogram struct {
	Fill
	Slices [Slices]int `json:"slices"`
}

// CPU is what the watch has cost since it runs, in seconds.
type CPU struct {
	Counting float64 `json:"counting"`
	Listing  float64 `json:"listing"`
	Waits    float64 `json:"waits"`
}

// Width is how many ports the n-th part has; none where there are fewer ports
// than parts.
func (h *Histogram) Width(n int) int { return begin(n+1, h.Size) - begin(n, h.Size) }

func begin(part, size int) int { return (part*size + Slices - 1) / Slices }
