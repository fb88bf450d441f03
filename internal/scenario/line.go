package scenario

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"fairlead.dev/fairlead/internal/world"
)

// A line of packets says what is sent, and where and how it is seen:
//
//	FROM > TO/PROTOCOL [in vxlan from NODE|in egress N from NODE|by POD] OUTCOME
//
// FROM and TO are a pod or an address, with a port where the protocol has them,
// or the identifier of an ICMP echo: default/a:4000, 198.51.100.10:80,
// [2001:db8::10]:80. Without a port, or with a range of them, FROM stands for
// many packets, spread over it. By POD it is the pod that sends what seems to come
// from FROM. OUTCOME is one of
//
//	seen as ADDRESS[:PORT|:LOW-HIGH|:kept] [to ADDRESS:PORT] [at random] [on INTERFACE|in vxlan to NODE|in egress N to NODE|at POD] [and back]
//	unreachable
//	dropped
//
// "kept" is the port it was sent with. Without "to" the destination is that it was
// sent to. "at random" wants ports that have nothing
// to do with those sent and that cover the range. "and back" answers each packet
// and wants the answer at the sender, as if nothing had been translated.
type line struct {
	text     string
	from, to end
	protocol protocol
	wrapped  netip.Addr // the node that sends the packet through the overlay
	number   uint16     // that comes with it through the tunnel of Egresses; 0: through the overlay's
	by       string     // the pod that sends it, if not the one it is from
	seen     *sighting  // nil: dropped or unreachable
	refused  bool       // unreachable
}

// sender is the pod that sends the packets, if it is one.
func (l line) sender() string {
	if l.by != "" {
		return l.by
	}
	return l.from.pod
}

// An end is one end of a line.
type end struct {
	pod   string
	addr  netip.Addr
	ports world.PortRange
}

// A sighting is how packets are to be seen.
type sighting struct {
	as     end
	to     netip.AddrPort // zero: the one it was sent to
	kept   bool
	random bool
	back   bool
	on     string     // interface; "" is the first
	at     string     // pod
	vxlan  netip.Addr // node
	number uint16     // see line
}

// anyPort is what a line without ports sends from.
var anyPort = world.PortRange{Low: 1024, High: 65535}

func parseLines(text string) ([]line, error) {
	var out []line
	for s := range strings.Lines(text) {
		s = strings.TrimSpace(s)
		if s == "" || strings.HasPrefix(s, "#") {
			continue
		}
		l, err := parseLine(s)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", s, err)
		}
		out = append(out, l)
	}
	return out, nil
}

func parseLine(s string) (l line, err error) {
	words := strings.Fields(s)
	if len(words) < 4 || words[1] != ">" {
		return l, fmt.Errorf("is not FROM > TO/PROTOCOL OUTCOME")
	}
	l.text = s
	if l.from, err = parseEnd(words[0]); err != nil {
		return l, err
	}
	cut := strings.LastIndex(words[2], "/")
	if cut < 0 {
		return l, fmt.Errorf("%s has no protocol", words[2])
	}
	if l.protocol, err = parseProtocol(words[2][cut+1:]); err != nil {
		return l, err
	}
	if l.to, err = parseEnd(words[2][:cut]); err != nil {
		return l, err
	}
	if l.from.ports.High == 0 && l.protocol.ported() {
		l.from.ports = anyPort
	}
	words = words[3:]
	if words, l.wrapped, l.number, err = parseTunnel(words, "from"); err != nil {
		return l, err
	}
	if len(words) > 2 && words[0] == "by" {
		l.by, words = words[1], words[2:]
	}
	switch outcome := strings.Join(words, " "); {
	case outcome == "unreachable":
		l.refused = true
	case outcome == "dropped":
	case strings.HasPrefix(outcome, "seen as ") && len(words) > 2:
		l.seen, err = parseSighting(words[2:])
	default:
		err = fmt.Errorf("%s is no outcome", outcome)
	}
	return l, err
}

func parseSighting(words []string) (s *sighting, err error) {
	s = &sighting{}
	if before, found := strings.CutSuffix(words[0], ":kept"); found {
		s.kept, words[0] = true, before
	}
	if s.as, err = parseEnd(words[0]); err != nil {
		return nil, err
	}
	words = words[1:]
	if len(words) > 1 && words[0] == "to" {
		if s.to, err = netip.ParseAddrPort(words[1]); err != nil {
			return nil, err
		}
		words = words[2:]
	}
	rest := strings.Join(words, " ")
	rest, s.random = strings.CutPrefix(rest, "at random")
	rest, s.back = strings.CutSuffix(strings.TrimSpace(rest), "and back")
	words, s.vxlan, s.number, err = parseTunnel(strings.Fields(rest), "to")
	switch {
	case err != nil || len(words) == 0:
	case len(words) == 2 && words[0] == "on":
		s.on = words[1]
	case len(words) == 2 && words[0] == "at":
		s.at = words[1]
	default:
		err = fmt.Errorf("%q says not where", rest)
	}
	return s, err
}

// parseTunnel reads the node that words begin with, if they do: "in vxlan from NODE", or
// "in egress NUMBER from NODE".
func parseTunnel(words []string, way string) (rest []string, node netip.Addr, number uint16, err error) {
	switch {
	case len(words) > 3 && words[0] == "in" && words[1] == "vxlan" && words[2] == way:
		words = words[3:]
	case len(words) > 4 && words[0] == "in" && words[1] == "egress" && words[3] == way:
		n, err := strconv.ParseUint(words[2], 10, 16)
		if err != nil || n == 0 {
			return nil, node, 0, fmt.Errorf("%s is no number of an address", words[2])
		}
		number, words = uint16(n), words[4:]
	default:
		return words, node, 0, nil
	}
	node, err = netip.ParseAddr(words[0])
	return words[1:], node, number, err
}

func parseEnd(s string) (e end, err error) {
	if a, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil { // IPv6 has colons of its own
		return end{addr: a}, nil
	}
	host, ports := s, ""
	if colon := strings.LastIndex(s, ":"); colon >= 0 {
		host, ports = strings.Trim(s[:colon], "[]"), s[colon+1:]
	}
	if strings.Contains(host, "/") {
		e.pod = host
	} else if e.addr, err = netip.ParseAddr(host); err != nil {
		return e, err
	}
	if ports != "" {
		e.ports, err = parsePorts(ports)
	}
	return e, err
}

func parsePorts(s string) (r world.PortRange, err error) {
	low, high, isRange := strings.Cut(s, "-")
	if !isRange {
		high = low
	}
	l, err := strconv.ParseUint(low, 10, 16)
	if err != nil {
		return r, err
	}
	h, err := strconv.ParseUint(high, 10, 16)
	if err != nil {
		return r, err
	}
	if h < l {
		return r, fmt.Errorf("%s runs backwards", s)
	}
	return world.PortRange{Low: uint16(l), High: uint16(h)}, nil
}

// The most packets of one line, and how many of them a bucket needs so that a
// random choice leaves none empty: 16 buckets of 19 are all hit but for one
// chance in ten million.
const (
	mostPackets     = 304
	packetsPerPlace = 19
)

// ports returns the ports that the line's packets are sent from, spread evenly.
// A small range at the far side is not filled: near its end the kernel finds no
// free port any more.
func (l line) sendPorts() []uint16 {
	r := l.from.ports
	if r.Low == r.High || l.refused || !l.protocol.ported() {
		return []uint16{r.Low}
	}
	n := min(mostPackets, r.Len())
	if l.seen != nil && l.seen.as.ports.High != 0 {
		n = min(n, max(1, l.seen.as.ports.Len()/4))
	}
	out := make([]uint16, n)
	for i := range out {
		out[i] = r.Low + uint16(i*(r.Len()-1)/max(1, n-1))
	}
	return out
}
