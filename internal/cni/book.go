package cni

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/world"
)

// A Book is the node's address book: which attachment has which addresses. It
// lives on disk, one file an attachment, and survives the agent.
//
// It does not survive the machine: the files stand in a folder that has the
// boot's name, since no sandbox outlives the kernel it is in. So nothing here is
// waited for to be on the disk.
type Book struct {
	// Gone reports whether an attachment's network namespace is known to be gone.
	// Until it is set, nothing is known of any.
	Gone func(*world.Attachment) bool

	dir, boot string
	lock      *os.File // held while the book is open
	forgotten int
	troubles  []error

	mu      sync.Mutex
	list    map[string]*record // by the attachment's key
	last    given
	gone    map[string]bool                         // keys of those whose namespace was not there at the last look
	damaged map[string]bool                         // keys of records that were set aside
	owed    map[string]bool                         // keys of records that are on the disk otherwise than here
	wire    func(containerID, ifname string) string // see Adopt
	view    *world.Attachments                      // what Attachments returns; a new pointer after every change
}

// OpenBook opens the address book in the state directory. What was written in
// another boot than the one named is forgotten.
func OpenBook(stateDir, boot string) (*Book, error) {
	b := &Book{dir: stateDir, boot: boot, list: map[string]*record{}, gone: map[string]bool{}, damaged: map[string]bool{}, owed: map[string]bool{},
		Gone: func(*world.Attachment) bool { return false }}
	if !isName(boot, longestContainerID) {
		return nil, fmt.Errorf("open IPAM state: invalid boot id %s", quote.Of(boot))
	}
	var err error
	if b.lock, err = Lock(stateDir); err != nil {
		return nil, fmt.Errorf("open IPAM state: %w", err)
	}
	b.open()
	return b, nil
}

// Lock makes this the only process with the state directory, until the file is
// closed. Two agents would give the same address to two pods, and each would take
// the other's wires away.
func Lock(stateDir string) (*os.File, error) {
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(stateDir, lockFile)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil { // a disk that is full or read-only has the file of an earlier agent
		f, err = os.Open(path)
	}
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("an agent has %s open", stateDir)
		}
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return f, nil
}

const lockFile = "lock"

// Files lists what the address book is made of in the state directory.
func Files(stateDir string) []string {
	return []string{boots(stateDir), tombstones(stateDir), lastFile(stateDir), filepath.Join(stateDir, lockFile)}
}

// Close lets another agent have the book. The lock is given back by name: a process
// that is being started holds the file, too, until it runs its own program (flock(2)).
func (b *Book) Close() error {
	return errors.Join(unix.Flock(int(b.lock.Fd()), unix.LOCK_UN), b.lock.Close())
}

// Forgotten is how many attachments of earlier boots were forgotten when the
// book was opened.
func (b *Book) Forgotten() int { return b.forgotten }

func (b *Book) open() {
	for _, dir := range []string{b.records(), tombstones(b.dir)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			b.suffer(err)
		}
	}
	b.forget()
	var err error
	if b.last, err = readGiven(lastFile(b.dir)); err != nil {
		b.suffer(err)
	}
	b.read()
	b.changed()
}

func (b *Book) suffer(err error) { b.troubles = append(b.troubles, err) }

// Troubles are what could not be read when the book was opened.
func (b *Book) Troubles() []error { return b.troubles }

// forget removes what earlier boots left.
func (b *Book) forget() {
	found, err := os.ReadDir(boots(b.dir))
	if err != nil {
		b.suffer(err)
	}
	for _, d := range found {
		if d.Name() == b.boot {
			continue
		}
		path := filepath.Join(boots(b.dir), d.Name())
		old, _ := os.ReadDir(path) // they are only counted
		if err := os.RemoveAll(path); err != nil {
			b.suffer(err)
			continue
		}
		for _, e := range old {
			if filepath.Ext(e.Name()) == recordEnd {
				b.forgotten++
			}
		}
	}
}

const recordEnd = ".json"

// boots is the folder of all records, with a folder for each boot.
func boots(stateDir string) string { return filepath.Join(stateDir, "attachments") }

func (b *Book) records() string { return filepath.Join(boots(b.dir), b.boot) }

func (b *Book) record(key string) string { return filepath.Join(b.records(), key+recordEnd) }

// Attachments returns what is in the book now. The value never changes.
func (b *Book) Attachments() *world.Attachments {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.view
}

func (b *Book) changed() {
	view := &world.Attachments{}
	for _, key := range slices.Sorted(maps.Keys(b.list)) {
		view.List = append(view.List, &b.list[key].Attachment)
	}
	b.view = view
}

// Attach writes the attachment down, with an address of each CIDR besides those
// it has. One that is in the book already is returned as it is there.
func (b *Book) Attach(a world.Attachment, network string, cidrs []netip.Prefix) (*world.Attachment, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.list[a.Key()]; r != nil {
		return &r.Attachment, nil
	}
	if err := b.first(&a); err != nil {
		return nil, err
	}
	if err := b.free(a.HostPorts); err != nil {
		return nil, err
	}
	taken := b.taken()
	a.Addresses = slices.Clone(a.Addresses)
	for _, cidr := range cidrs {
		addr, ok := pick(cidr, taken, b.last[cidr])
		if !ok {
			return nil, fmt.Errorf("pod CIDR %s: no address is left", cidr)
		}
		b.last[cidr] = addr
		a.Addresses = append(a.Addresses, addr)
	}
	r := &record{a, network}
	b.list[a.Key()] = r
	b.changed()
	_ = errors.Join(b.write(a.Key()), b.last.write(lastFile(b.dir))) // Settle tells, and tries again
	return &r.Attachment, nil
}

// first says whether the pod has this network already, by another interface: a
// second one would take the default route from the first, and leave the pod without
// one when it goes.
func (b *Book) first(a *world.Attachment) error {
	for _, r := range b.list {
		if !a.Chained && !r.Chained && r.ContainerID == a.ContainerID && !b.Gone(&r.Attachment) {
			return fmt.Errorf("%s has this network already, as %s: a second interface of it is not supported; attach another network as %s",
				a.ContainerID, r.Interface, a.Interface)
		}
	}
	return nil
}

// free says who has one of the host ports, if anyone. A pod whose namespace is
// known to be gone keeps nobody out of its ports.
func (b *Book) free(ports []world.HostPort) error {
	for key, r := range b.list {
		for _, p := range ports {
			if !slices.ContainsFunc(r.HostPorts, p.Overlaps) {
				continue
			}
			if !b.Gone(&r.Attachment) {
				return fmt.Errorf("host port %s is taken by pod %s/%s", p, r.Namespace, r.Pod)
			}
			b.detach(key)
			break
		}
	}
	return nil
}

// Detach strikes the attachment out and frees its addresses. One that is not in
// the book is no error.
func (b *Book) Detach(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.detach(b.known(key))
}

func (b *Book) detach(key string) {
	if b.list[key] == nil && !b.damaged[key] {
		return
	}
	delete(b.list, key)
	delete(b.gone, key)
	_ = b.erase(key) // Settle tells, and tries again
	b.changed()
}

// Find returns the attachment, or nil.
func (b *Book) Find(key string) *world.Attachment {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.list[b.known(key)]; r != nil {
		return &r.Attachment
	}
	return nil
}
