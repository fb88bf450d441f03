package kernel

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"fairlead.dev/fairlead/internal/datapath/link"
	"fairlead.dev/fairlead/internal/world"
)

// An Observer looks at one kernel time and again. While it watches, what
// announces its changes is listed again only after an announcement: a node with
// many pods has a long list of links, hardly any of which are others'.
type Observer struct {
	// Capabilities of the kernel, which do not change while it runs.
	Capabilities world.Capabilities
	// ResolvConf is the file that names the resolvers; "": the usual one.
	ResolvConf string
	// TryAgain is how long a namespace that refuses a setting is left alone; 0: a minute.
	TryAgain time.Duration

	watches atomic.Int32 // sockets that hear announcements
	stale   atomic.Bool  // something was announced since the last listing

	filters  filters
	underlay underlay
	tcp      podTCP

	mu   sync.Mutex
	last listed
	at   time.Time

	resolvers atomic.Pointer[[]netip.Addr] // as they were read last
}

// listed is what announces its changes.
type listed struct {
	interfaces []world.Interface
	exits      []world.Exit
	rules      []world.SourceRule
	uplinks    []world.Uplink
	others     map[int32]bool // indexes of these interfaces
}

// listAnyway bounds the age of a listing.
const listAnyway = 30 * time.Second

// look returns the last listing where nothing was announced since.
func (o *Observer) look() (listed, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	fresh := o.watches.Load() == int32(len(watched)) && !o.at.IsZero() && time.Since(o.at) < listAnyway
	if !o.stale.Swap(false) && fresh {
		return o.last, nil
	}
	seen, err := link.Whole(list)
	if err != nil {
		o.stale.Store(true)
		return listed{}, err
	}
	o.last, o.at = seen, time.Now()
	return seen, nil
}

// isOthers reports whether the interface of the given index was listed. One that
// came since is announced by itself.
func (o *Observer) isOthers(index int32) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.last.others[index]
}
