package link

import (
	"errors"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Remove removes the named links and returns what went wrong with each. One that
// is gone is no error.
//
// For every link that goes, the kernel waits until no CPU looks at it any more,
// some ten milliseconds. It does so once for all that go together, and all that
// go together are those of one group (Linux net/core/rtnetlink.c,
// rtnl_group_dellink); so they are put into the given one first, which must be
// nobody else's.
func Remove(names []string, group int) []error {
	errs := make([]error, len(names))
	if len(names) > 1 && gather(names, group) == nil {
		if removeGroup(group) == nil {
			return errs
		}
	}
	for i, name := range names {
		errs[i] = remove(name)
	}
	return errs
}

func remove(name string) error {
	dev, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return err
	}
	return netlink.LinkDel(dev)
}

// gather puts the links into the group. The first that cannot be ends it.
func gather(names []string, group int) error {
	for _, name := range names {
		dev, err := netlink.LinkByName(name)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			continue
		}
		if err == nil {
			err = netlink.LinkSetGroup(dev, group)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func removeGroup(group int) error {
	r := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
	r.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	r.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(uint32(group))))
	_, err := r.Execute(unix.NETLINK_ROUTE, 0)
	return err
}
