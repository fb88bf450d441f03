package tc

import (
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/datapath/rtnl"
)

// Names and shapes of Linux include/uapi/linux/rtnetlink.h, pkt_sched.h,
// pkt_cls.h and tc_act/tc_mirred.h, by their names there.
const (
	hRoot    = 0xffffffff // TC_H_ROOT
	hClsact  = 0xfffffff1 // TC_H_CLSACT, also TC_H_INGRESS
	hIngress = 0xfffffff2 // TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)
	hHook    = 0xffff0000 // the handle of whatever stands there

	tcaKind, tcaOptions = 1, 2 // also TCA_ACT_KIND, TCA_ACT_OPTIONS

	tbfParms, tbfRate64, tbfBurst = 1, 4, 6

	u32Sel, u32Act = 5, 7
	u32Terminal    = 1

	mirredParms    = 2
	egressRedirect = 1
	actStolen      = 4
	firstAction    = 1

	linklayerEthernet = 1
)

// allProtocols is ETH_P_ALL in network order, as filters have it.
const allProtocols = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8&0xff00

// tcmsg is the header of every message.
type tcmsg struct {
	_                    uint32 // family and padding
	Ifindex              int32
	Handle, Parent, Info uint32
}

type ratespec struct {
	CellLog, Linklayer uint8
	Overhead           uint16
	CellAlign          int16
	MPU                uint16
	Rate               uint32
}

type tbfQopt struct {
	Rate, Peakrate     ratespec
	Limit, Buffer, MTU uint32
}

// u32Match is struct tc_u32_sel with one key.
type u32Match struct {
	Flags, Offshift, Nkeys, _ uint8
	Offmask, Off              uint16
	Offoff, Hoff              int16
	Hmask                     uint32
	Mask, Val                 uint32
	KeyOff, KeyOffmask        int32
}

type mirred struct {
	Index, Capab            uint32
	Action, Refcnt, Bindcnt int32
	Eaction                 int32
	Ifindex                 uint32
}

// A request is what a message says beside the link.
type request struct {
	typ                  netlink.HeaderType
	flags                netlink.HeaderFlags
	parent, handle, info uint32
	attrs                []netlink.Attribute
}

func (r request) about(c *rtnl.Conn, link string) (netlink.Message, error) {
	index, err := c.Index(link)
	if err != nil {
		return netlink.Message{}, err
	}
	h := tcmsg{Ifindex: int32(index), Parent: r.parent, Handle: r.handle, Info: r.info}
	return rtnl.NewMessage(r.typ, r.flags, h, r.attrs...)
}

// place is what a filter's header says of where it stands among others.
func place(pref int, protocol uint32) uint32 { return uint32(pref)<<16 | protocol }

func kind(name string) netlink.Attribute {
	return netlink.Attribute{Type: tcaKind, Data: append([]byte(name), 0)}
}

func attr[T any](typ uint16, v T) netlink.Attribute {
	return netlink.Attribute{Type: typ, Data: rtnl.Bytes(v)}
}

func nest(typ uint16, attrs ...netlink.Attribute) netlink.Attribute {
	b, _ := netlink.MarshalAttributes(attrs) // fails on more than 64 KiB
	return netlink.Attribute{Type: typ, Data: b}
}
