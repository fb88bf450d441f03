package cli

import (
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/internal/feature/snat"
)

// whoProtocols are what --protocol takes.
var whoProtocols = []string{"tcp", "udp", "sctp", "icmp"}

// A whoQuestion asks which pod has a port.
type whoQuestion struct {
	command        *cobra.Command // whose flags they are
	port, protocol string
}

// whoFlags adds the question to a command that shows source NAT.
func whoFlags(c *cobra.Command) *whoQuestion {
	q := &whoQuestion{command: c}
	c.Flags().StringVar(&q.port, "who", "", "snat: name the pod that has, or just had, this `ADDRESS:PORT` as seen from outside")
	c.Flags().StringVar(&q.protocol, "protocol", "", "with --who, of this protocol only: "+strings.Join(whoProtocols, ", "))
	return q
}

// ask reports whether q asks anything of what is shown, and what of the agent.
func (q *whoQuestion) ask(shown string) (path string, asks bool, err error) {
	// An empty question, of a variable that is not set, is a mistake and no question.
	if f := q.command.Flags(); !f.Changed("who") && !f.Changed("protocol") {
		return "", false, nil
	}
	port, err := netip.ParseAddrPort(q.port)
	switch {
	case shown != "snat":
		return "", false, misuse{fmt.Errorf("--who and --protocol go with get snat")}
	case err != nil || port.Port() == 0 || port.Addr().Zone() != "":
		return "", false, misuse{fmt.Errorf("--who %q: write ADDRESS:PORT, such as 192.0.2.1:40000 or [2001:db8::1]:40000", q.port)}
	case q.protocol != "" && !slices.Contains(whoProtocols, q.protocol):
		return "", false, misuse{fmt.Errorf("--protocol %q: use %s", q.protocol, strings.Join(whoProtocols, ", "))}
	}
	port = netip.AddrPortFrom(port.Addr().Unmap(), port.Port())
	query := url.Values{"port": {port.String()}, "protocol": {q.protocol}}
	return "/v1/snat/who?" + query.Encode(), true, nil
}

// holders is the answer and its table.
type holders struct{ snat.Holders }

func (h *holders) answer() any { return &h.Holders }

func (h *holders) print(w io.Writer) error {
	t := table[snat.Holder]{list: h.List, header: []string{"NAMESPACE", "NAME", "ADDRESSES", "PORTS", "CONNECTIONS", "GONE"}, none: h.Reason,
		row: func(o snat.Holder) []string {
			return []string{dash(o.Namespace), dash(o.Name), join(o.Addresses), dash(o.Ports), fmt.Sprint(o.Connections), gone(o)}
		}}
	return t.print(w)
}

// blocksOf is how many blocks of source ports are held.
func blocksOf(s snat.Shown) string {
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

func gone(h snat.Holder) string {
	switch {
	case !h.Gone:
		return "no"
	case h.GoneSince.IsZero():
		return "yes"
	default:
		return "since " + h.GoneSince.Local().Format(time.DateTime)
	}
}
