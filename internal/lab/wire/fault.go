package wire

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/netns"
)

// Unplug takes the carrier from node i.
func (n *Net) Unplug(i int) error { return n.onPort(i, netlink.LinkSetDown) }

// Plug gives the carrier back.
func (n *Net) Plug(i int) error { return n.onPort(i, netlink.LinkSetUp) }

// Silence stops node i's traffic; its link stays up.
func (n *Net) Silence(i int) error {
	return n.onPort(i, func(l netlink.Link) error { return setPortState(l, portDisabled) })
}

// Unsilence lets node i's traffic pass again.
func (n *Net) Unsilence(i int) error {
	return n.onPort(i, func(l netlink.Link) error { return setPortState(l, portForwarding) })
}

func (n *Net) onPort(i int, f func(netlink.Link) error) error {
	err := netns.Do(n.Router(), func() error {
		port, err := netlink.LinkByName(nodePort(i))
		if err != nil {
			return err
		}
		return f(port)
	})
	if err != nil {
		return fmt.Errorf("link of node %s: %w", n.Plan.Nodes[i].Name, err)
	}
	return nil
}

// States of a bridge port, from include/uapi/linux/if_bridge.h.
const (
	portDisabled   = 0
	portForwarding = 3
)

// iflaBrportState is IFLA_BRPORT_STATE of include/uapi/linux/if_link.h.
const iflaBrportState = 1

func setPortState(l netlink.Link, state byte) error {
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
	msg.Index = int32(l.Attrs().Index)
	req.AddData(msg)
	info := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
	info.AddRtAttr(iflaBrportState, []byte{state})
	req.AddData(info)
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("set bridge port state %d: %w", state, err)
	}
	return nil
}
