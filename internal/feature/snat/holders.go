package snat

import (
	"fmt"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/view"
)

// whoNames are what --protocol takes.
var whoNames = []string{"tcp", "udp", "sctp", "icmp"}

var whoFlags = []view.Flag{
	{Name: "who", Usage: "snat: name the pod that has, or just had, this `ADDRESS:PORT` as seen from outside"},
	{Name: "protocol", Usage: "with --who, of this protocol only: " + strings.Join(whoNames, ", ")},
}

// ask asks which pod has a port.
func ask(flags map[string]string) (question string, answer view.Answer, err error) {
	protocol := flags["protocol"]
	port, err := netip.ParseAddrPort(flags["who"])
	switch {
	case err != nil || port.Port() == 0 || port.Addr().Zone() != "":
		return "", nil, fmt.Errorf("--who %s: write ADDRESS:PORT, such as 192.0.2.1:40000 or [2001:db8::1]:40000", quote.Of(flags["who"]))
	case protocol != "" && !slices.Contains(whoNames, protocol):
		return "", nil, fmt.Errorf("--protocol %s: use %s", quote.Of(protocol), strings.Join(whoNames, ", "))
	}
	port = netip.AddrPortFrom(port.Addr().Unmap(), port.Port())
	query := url.Values{"port": {port.String()}, "protocol": {protocol}}
	return "snat/who?" + query.Encode(), &holders{}, nil
}

// holders is the answer and its table.
type holders struct{ Holders }

// Into is part of view.Answer.
func (h *holders) Into() any { return &h.Holders }

// Rows is part of view.Answer.
func (h *holders) Rows() view.Rows {
	t := view.Table[Holder]{List: h.List, Header: []string{"NAMESPACE", "NAME", "ADDRESSES", "PORTS", "CONNECTIONS", "GONE"}, None: h.Reason,
		Name: func(o Holder) string {
			if o.Name == "" {
				return view.Join(o.Addresses)
			}
			return path.Join(o.Namespace, o.Name)
		},
		Cells: func(o Holder) []string {
			return []string{view.Dash(o.Namespace), view.Dash(o.Name), view.Join(o.Addresses), view.Dash(o.Ports), fmt.Sprint(o.Connections), gone(o)}
		}}
	return t.Rows()
}

// blocksOf is how many blocks of source ports are held.
func blocksOf(s Shown) string {
	b := s.Blocks
	if b == nil {
		return "-"
	}
	text := fmt.Sprintf("%d of %d, %d ports each", b.Held, b.Count, b.Size)
	if b.Sharing > 0 {
		text += fmt.Sprintf("; pods that share %s: %d", b.Shared, b.Sharing)
	}
	return text
}

func gone(h Holder) string {
	switch {
	case !h.Gone:
		return "no"
	case h.GoneSince.IsZero():
		return "yes"
	default:
		return "since " + h.GoneSince.Local().Format(time.DateTime)
	}
}
