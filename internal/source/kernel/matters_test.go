package kernel

import (
	"encoding/binary"
	"testing"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// What the kernel finds out about others' neighbours wakes nobody, such as that one
// does not answer: of 5,000 nodes that is told many times a minute.
func TestNeighboursThatTheKernelDiscoversDoNotMatter(t *testing.T) {
	t.Parallel()
	const others, ours = 2, 3 // indexes of interfaces
	o := &Observer{last: listed{others: map[int32]bool{others: true}}}
	for _, c := range []struct {
		name  string
		typ   netlink.HeaderType
		index uint32
		state uint16
		want  bool
	}{
		{"discovered", unix.RTM_NEWNEIGH, others, unix.NUD_REACHABLE, false},
		{"grown old", unix.RTM_NEWNEIGH, others, unix.NUD_STALE, false},
		{"made permanent", unix.RTM_NEWNEIGH, others, unix.NUD_PERMANENT, true},
		{"does not answer", unix.RTM_NEWNEIGH, others, unix.NUD_FAILED, false},
		{"forgotten", unix.RTM_DELNEIGH, others, unix.NUD_STALE, false},
		{"ours, taken away", unix.RTM_NEWNEIGH, ours, unix.NUD_FAILED, true},
		{"ours, deleted", unix.RTM_DELNEIGH, ours, unix.NUD_PERMANENT, true},
		{"ours, no longer permanent", unix.RTM_NEWNEIGH, ours, unix.NUD_REACHABLE, true},
		{"a link", unix.RTM_NEWLINK, others, unix.NUD_REACHABLE, true},
	} {
		data := make([]byte, unix.SizeofNdMsg)
		binary.NativeEndian.PutUint32(data[4:], c.index)
		binary.NativeEndian.PutUint16(data[8:], c.state)
		if got := o.mattersOfLinks(netlink.Message{Header: netlink.Header{Type: c.typ}, Data: data}); got != c.want {
			t.Errorf("%s: matters %v, want %v", c.name, got, c.want)
		}
	}
}

// What comes and goes on links of ours with every pod has nothing listed again.
func TestWhatPodsBringIsNotListedAgain(t *testing.T) {
	t.Parallel()
	o := &Observer{last: listed{others: map[int32]bool{}}}
	for _, typ := range []netlink.HeaderType{unix.RTM_NEWQDISC, unix.RTM_DELQDISC, unix.RTM_NEWCHAIN, unix.RTM_DELCHAIN, unix.RTM_NEWTFILTER, unix.RTM_DELTFILTER,
		unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH, unix.RTM_NEWNETCONF, unix.RTM_DELNETCONF} {
		if o.lists(netlink.Message{Header: netlink.Header{Type: typ}, Data: make([]byte, 64)}) {
			t.Errorf("message %d has everything listed again", typ)
		}
	}
}
