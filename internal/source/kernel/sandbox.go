package kernel

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"

	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/netns"
	"fairlead.dev/fairlead/internal/world"
)

// A sandbox is what is known of the network namespace of an attachment. Not to see
// one is no proof that it is gone: a path says nothing in a container that was given
// no mount, or before mounts are propagated. But a namespace takes the wire that
// leads into it along when it goes. So one is gone where there is no wire (any more)
// and its path, in the directory in which it was shown, names nothing or another.
type sandbox struct {
	seen, gone bool
	reason     string // where it is neither
	blind      bool   // nothing of its kind may be visible
}

func look(a *world.Attachment) sandbox {
	if a.Wire != "" {
		wired, err := hasWire(a)
		return sandbox{gone: !wired && err == nil, reason: "nothing but its veth pair is known"}
	}
	found := netns.Inode(a.Netns)
	if found != 0 && found == a.Inode {
		return sandbox{seen: true}
	}
	hidden, why := hides(a, found)
	if !a.Chained {
		wired, err := hasWire(a)
		if err != nil {
			return sandbox{reason: fmt.Sprintf("its veth pair cannot be read: %v", err)}
		}
		if wired {
			return sandbox{reason: why + ", and its veth pair exists", blind: hidden}
		}
	}
	if hidden {
		return sandbox{reason: why, blind: true}
	}
	return sandbox{gone: true}
}

// hides reports whether the path of a's namespace may hide one that is there, and
// says what is seen at it.
func hides(a *world.Attachment, found uint64) (bool, string) {
	if found != 0 {
		return false, a.Netns + " is another network namespace than it was"
	}
	_, err := os.Lstat(a.Netns)
	switch {
	case err == nil:
		return true, a.Netns + " is no network namespace"
	case !errors.Is(err, os.ErrNotExist):
		return true, err.Error()
	case a.Place == "" || netns.Place(a.Netns) != a.Place:
		return true, fmt.Sprintf("there is no %s, and %s is not the directory in which it was", a.Netns, netns.Shown(a.Netns))
	}
	return false, "there is no " + a.Netns + " any more"
}

func hasWire(a *world.Attachment) (bool, error) {
	_, err := netlink.LinkByName(feature.Wire(a))
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return false, nil
	}
	return err == nil, err
}

// Gone reports whether the kernel of the calling thread's network namespace says that
// an attachment's network namespace is gone.
func Gone(a *world.Attachment) bool { return look(a).gone }

// sandboxes fills in what is known of the attachments' namespaces.
func sandboxes(k *world.Kernel, list []*world.Attachment) {
	sees := map[string]bool{} // by directory: whether a namespace was seen in it
	blind := map[string]bool{}
	for _, a := range list {
		dir := netns.Shown(a.Netns)
		switch s := look(a); {
		case s.seen:
			sees[dir] = true
			k.Seen = append(k.Seen, a.Key())
		case !s.gone:
			blind[dir] = blind[dir] || s.blind
			k.Unseen = append(k.Unseen, world.Unseen{Attachment: a.Key(), Reason: s.reason})
		}
	}
	for dir := range blind {
		if blind[dir] && !sees[dir] {
			k.Blind = append(k.Blind, dir)
		}
	}
	slices.Sort(k.Seen)
	slices.SortFunc(k.Unseen, func(x, y world.Unseen) int { return strings.Compare(x.Attachment, y.Attachment) })
	slices.Sort(k.Blind)
}
