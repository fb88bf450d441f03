package tc

import (
	"errors"
	"fmt"
	"math"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/rtnl"
)

// A hold makes the kernel hold a shaper, in place of what was at the root.
type hold struct{ Shaper }

func (h hold) Message(c *rtnl.Conn) (netlink.Message, error) {
	b := h.bucket()
	rate := ratespec{Linklayer: linklayerEthernet, Rate: uint32(min(b.rate, math.MaxUint32))}
	options := []netlink.Attribute{attr(tbfParms, tbfQopt{Rate: rate, Limit: b.limit}), attr(tbfBurst, b.burst)}
	if b.rate >= math.MaxUint32 {
		options = append(options, attr(tbfRate64, b.rate))
	}
	return request{
		typ: unix.RTM_NEWQDISC, flags: netlink.Create | netlink.Replace, parent: hRoot,
		attrs: []netlink.Attribute{kind("tbf"), nest(tcaOptions, options...)},
	}.about(c, h.Link)
}

func (h hold) Refused(_ *rtnl.Conn, err error) error { return err }

// A release takes a shaper away.
type release struct{ Shaper }

func (r release) String() string { return fmt.Sprintf("tc qdisc del dev %s root", r.Link) }

func (r release) Message(c *rtnl.Conn) (netlink.Message, error) {
	return request{typ: unix.RTM_DELQDISC, parent: hRoot}.about(c, r.Link)
}

func (r release) Refused(_ *rtnl.Conn, err error) error { return unlessGone(err) }

// A hook makes the place for a redirect. Another kind of hook, which somebody may
// have made there, does as well.
type hook struct{ Redirect }

func (h hook) String() string { return fmt.Sprintf("tc qdisc replace dev %s clsact", h.Link) }

func (h hook) Message(c *rtnl.Conn) (netlink.Message, error) {
	return request{
		typ: unix.RTM_NEWQDISC, flags: netlink.Create | netlink.Replace, parent: hClsact, handle: hHook,
		attrs: []netlink.Attribute{kind("clsact")},
	}.about(c, h.Link)
}

func (h hook) Refused(_ *rtnl.Conn, err error) error {
	if errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}

// A lead puts a redirect into its hook.
type lead struct {
	Redirect
	pref int
}

func (l lead) String() string {
	return fmt.Sprintf("tc filter add dev %s ingress protocol all pref %d u32 match u32 0 0 action mirred egress redirect dev %s", l.Link, l.pref, l.To)
}

func (l lead) Message(c *rtnl.Conn) (netlink.Message, error) {
	to, err := c.Index(l.To)
	if err != nil {
		return netlink.Message{}, fmt.Errorf("%s: %w", l.To, err)
	}
	return request{
		typ: unix.RTM_NEWTFILTER, flags: netlink.Create | netlink.Excl, parent: hIngress, info: place(l.pref, allProtocols),
		attrs: []netlink.Attribute{kind("u32"), nest(tcaOptions,
			attr(u32Sel, u32Match{Flags: u32Terminal, Nkeys: 1}),
			nest(u32Act, nest(firstAction, kind("mirred"),
				nest(tcaOptions, attr(mirredParms, mirred{Action: actStolen, Eaction: egressRedirect, Ifindex: uint32(to)})))))},
	}.about(c, l.Link)
}

func (l lead) Refused(_ *rtnl.Conn, err error) error { return err }

// A stop takes the filters of a redirect away, and nothing else.
type stop struct {
	Redirect
	pref int
}

func (s stop) String() string {
	return fmt.Sprintf("tc filter del dev %s ingress pref %d", s.Link, s.pref)
}

func (s stop) Message(c *rtnl.Conn) (netlink.Message, error) {
	return request{typ: unix.RTM_DELTFILTER, parent: hIngress, info: place(s.pref, 0)}.about(c, s.Link)
}

func (s stop) Refused(_ *rtnl.Conn, err error) error { return unlessGone(err) }

// unlessGone: what is gone, maybe with its link, is as wanted.
func unlessGone(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}
