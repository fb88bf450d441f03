package snat

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/conntrack"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/view"
)

// Holders are those who have a port of an address, as seen from outside.
type Holders struct {
	view.List[Holder]
	Reason string `json:"reason,omitempty"` // why there is none
}

// A Holder is one of them. Without a pod's name it is the node itself, or a
// source that the node knows nothing of.
type Holder struct {
	Node        string       `json:"node"`
	Namespace   string       `json:"namespace"`
	Name        string       `json:"name"`
	Addresses   []netip.Addr `json:"addresses"`
	Ports       string       `json:"ports,omitempty"` // its block
	Connections int          `json:"connections"`     // that have the port right now
	Gone        bool         `json:"gone"`
	GoneSince   time.Time    `json:"goneSince,omitzero"` // when the node noticed, of a block's holder
}

// whoProtocols are the protocols that can be asked for.
var whoProtocols = map[string][]byte{
	"": nil, "tcp": {unix.IPPROTO_TCP}, "udp": {unix.IPPROTO_UDP}, "sctp": {unix.IPPROTO_SCTP}, "icmp": {unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6},
}

// who answers who has ?port=ADDRESS:PORT, of ?protocol=PROTOCOL if given.
func who(_ context.Context, s feature.Seen, q url.Values) (any, error) {
	port, err := netip.ParseAddrPort(q.Get("port"))
	protocols, ok := whoProtocols[q.Get("protocol")]
	if err != nil || !ok {
		return nil, feature.Unanswerable(http.StatusBadRequest, "ask with port=ADDRESS:PORT, and protocol=tcp, udp, sctp or icmp")
	}
	if s.World == nil {
		return nil, feature.Unanswerable(http.StatusServiceUnavailable, "the agent is not ready: nothing is known of its node")
	}
	if s.Result == nil {
		return nil, feature.Unanswerable(http.StatusNotFound, "source NAT is switched off on node %s", s.World.Node.Name)
	}
	if _, here := s.World.Kernel.Holding(port.Addr()); !here {
		return nil, feature.Unanswerable(http.StatusNotFound, "%s is no address of node %s: ask the node that has it", port.Addr(), s.World.Node.Name)
	}
	open, err := connections(port, protocols)
	if err != nil {
		return nil, err
	}
	return HoldersOf(s, port, open), nil
}

// connections counts those that have the port, by their own sources.
func connections(port netip.AddrPort, protocols []byte) (out map[netip.Addr]int, err error) {
	t, err := conntrack.Open()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	out = map[netip.Addr]int{}
	return out, t.Dump(conntrack.Filter{Reply: conntrack.Tuple{Destination: port}}, func(e *conntrack.Entry) bool {
		if protocols == nil || slices.Contains(protocols, e.Protocol) {
			out[e.Original.Source.Addr()]++
		}
		return true
	})
}

// HoldersOf is everybody whose connections have the port, and the pod whose block it
// is in, alive or gone.
func HoldersOf(s feature.Seen, port netip.AddrPort, open map[netip.Addr]int) Holders {
	var out Holders
	owner, reason := ownerOf(s, port)
	if owner != nil {
		out.Items = append(out.Items, *owner)
	}
	for source, n := range open {
		h := holder(s, source)
		i := slices.IndexFunc(out.Items, func(o Holder) bool {
			return slices.Contains(o.Addresses, source) || h.Name != "" && o.Namespace == h.Namespace && o.Name == h.Name
		})
		if i < 0 {
			i = len(out.Items)
			out.Items = append(out.Items, h)
		}
		out.Items[i].Connections += n
	}
	slices.SortStableFunc(out.Items, func(a, b Holder) int {
		return cmp.Or(cmp.Compare(b.Connections, a.Connections), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	})
	if len(out.Items) == 0 {
		out.Reason = reason
	}
	out.List = view.Of(out.Items...)
	return out
}

// ownerOf is the pod that alone has the block with the port in it, or had it
// last; nil, and why, where there is none.
func ownerOf(s feature.Seen, port netip.AddrPort) (*Holder, string) {
	p, given := InForce(s.World), Allot(s.World)
	number, ok := BlockOf(s.World, port)
	switch {
	case p.Block == 0:
		return nil, fmt.Sprintf("all pods share the ports %s, and no connection has this one right now", p)
	case !ok:
		return nil, fmt.Sprintf("no block of source ports has it, and no connection right now; blocks are in %s", p)
	case len(given.Sharing) > 0 && p.Shared().Contains(port.Port()):
		return nil, fmt.Sprintf("%d pods share the ports %s, and no connection has this one right now", len(given.Sharing)+1, p.Shared())
	}
	i := slices.IndexFunc(given.Blocks.List, func(b Block) bool { return b.Number == number })
	if i < 0 {
		return nil, fmt.Sprintf("no pod ever had the block %s", p.Numbered(number))
	}
	b := given.Blocks.List[i]
	if b.Holder == "" {
		return nil, fmt.Sprintf("the record of the block %s was damaged, and nobody knows which pod had it", p.Numbered(number))
	}
	h := Holder{Node: s.World.Node.Name, Addresses: b.Addresses, Ports: p.Numbered(number).String(), Gone: b.Freed != 0}
	if h.Gone {
		h.GoneSince = s.Since(keptBlocks.Name, strconv.Itoa(number))
	}
	h.Namespace, h.Name, _ = strings.Cut(b.Pod, "/")
	return &h, ""
}

// holder is who sends from a source.
func holder(s feature.Seen, source netip.Addr) Holder {
	h := Holder{Node: s.World.Node.Name, Addresses: []netip.Addr{source}}
	for _, a := range s.World.Attachments.List {
		if slices.Contains(a.Addresses, source) {
			h.Namespace, h.Name, h.Addresses = a.Namespace, a.Pod, a.Addresses
		}
	}
	return h
}
