package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/plugins/plugins/ipam/host-local/backend/allocator"
	"github.com/containernetworking/plugins/plugins/ipam/host-local/backend/disk"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/world"
)

// A Book is the node's address book: which attachment has which addresses. It
// lives on disk, one file an attachment, beside the host-local allocator's
// store of taken addresses, and survives the agent.
type Book struct {
	dir   string
	store *disk.Store
	lock  *os.File // held while the book is open

	mu   sync.Mutex
	list map[string]*world.Attachment
	view *world.Attachments // what Attachments returns; a new pointer after every change
}

// network is the name of our allocations in the host-local store.
const network = "fairlead"

// OpenBook opens the address book in the state directory. Addresses that are
// taken in the store by nobody in the book are given back: a crash came between.
func OpenBook(stateDir string) (*Book, error) {
	b := &Book{dir: stateDir, list: map[string]*world.Attachment{}}
	var err error
	if b.lock, err = Lock(stateDir); err != nil {
		return nil, fmt.Errorf("open address book: %w", err)
	}
	if err := b.open(); err != nil {
		return nil, fmt.Errorf("open address book: %w", errors.Join(err, b.Close()))
	}
	return b, nil
}

// Lock makes this the only process with the state directory, until the file is
// closed. Two agents would give the same address to two pods, and each would take
// the other's wires away.
func Lock(stateDir string) (*os.File, error) {
	if err := os.MkdirAll(stateDir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(stateDir, lockFile), os.O_CREATE|os.O_RDWR, 0o600)
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
	return []string{records(stateDir), tombstones(stateDir), addresses(stateDir), filepath.Join(stateDir, lockFile)}
}

// Close lets another agent have the book.
func (b *Book) Close() error { return b.lock.Close() }

func (b *Book) open() error {
	for _, dir := range []string{records(b.dir), tombstones(b.dir)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	var err error
	if b.store, err = disk.New(network, addresses(b.dir)); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(records(b.dir), "*.json"))
	if err != nil {
		return err
	}
	for _, file := range files {
		a, err := readRecord(file)
		if err != nil {
			return fmt.Errorf("%s: %w; remove the file if its pod is gone", file, err)
		}
		b.list[keyOf(a)] = a
	}
	if err := b.releaseOrphans(); err != nil {
		return err
	}
	b.changed()
	return nil
}

func records(stateDir string) string { return filepath.Join(stateDir, "attachments") }

func addresses(stateDir string) string { return filepath.Join(stateDir, "addresses") }

func (b *Book) record(key string) string { return filepath.Join(records(b.dir), key+".json") }

func readRecord(file string) (*world.Attachment, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	a := &world.Attachment{}
	return a, json.Unmarshal(content, a)
}

// Attachments returns what is in the book now. The value never changes.
func (b *Book) Attachments() *world.Attachments {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.view
}

func (b *Book) changed() {
	view := &world.Attachments{}
	for _, a := range b.list {
		view.List = append(view.List, a)
	}
	slices.SortFunc(view.List, func(x, y *world.Attachment) int { return strings.Compare(keyOf(x), keyOf(y)) })
	b.view = view
}

// Attach writes the attachment down, with an address of each CIDR. The same
// request again gets the same answer.
func (b *Book) Attach(r Request, cidrs []netip.Prefix) (*world.Attachment, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a := b.list[r.key()]; a != nil {
		if a.Netns == r.Netns {
			return a, nil
		}
		// The runtime made the sandbox anew without saying so.
		if err := b.detach(r.key()); err != nil {
			return nil, err
		}
	}
	a := &world.Attachment{Namespace: r.Namespace, Pod: r.Pod, ContainerID: r.ContainerID, Interface: r.Interface, Netns: r.Netns}
	for i, cidr := range cidrs {
		addr, err := b.allocate(r, cidr, i)
		if err != nil {
			return nil, errors.Join(err, b.release(r.ContainerID, r.Interface))
		}
		a.Addresses = append(a.Addresses, addr)
	}
	content, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	if err := writeFile(b.record(r.key()), content); err != nil {
		return nil, errors.Join(err, b.release(r.ContainerID, r.Interface))
	}
	b.list[r.key()] = a
	b.changed()
	return a, nil
}

func (b *Book) allocate(r Request, cidr netip.Prefix, id int) (netip.Addr, error) {
	subnet := net.IPNet{IP: cidr.Addr().AsSlice(), Mask: net.CIDRMask(cidr.Bits(), cidr.Addr().BitLen())}
	set := allocator.RangeSet{{Subnet: types.IPNet(subnet)}}
	if err := set.Canonicalize(); err != nil {
		return netip.Addr{}, fmt.Errorf("pod CIDR %s: %w", cidr, err)
	}
	ip, err := allocator.NewIPAllocator(&set, b.store, id).Get(r.ContainerID, r.Interface, nil)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("pod CIDR %s: %w", cidr, err)
	}
	addr, _ := netip.AddrFromSlice(ip.Address.IP)
	return addr.Unmap(), nil
}

// Detach strikes the attachment out and frees its addresses. One that is not in
// the book is no error.
func (b *Book) Detach(containerID, ifname string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.detach(key(containerID, ifname))
}

// detach removes the record first: addresses without a record are released when
// the book is opened again.
func (b *Book) detach(key string) error {
	a := b.list[key]
	if a == nil {
		return nil
	}
	if err := os.Remove(b.record(key)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	delete(b.list, key)
	b.changed()
	return b.release(a.ContainerID, a.Interface)
}

func (b *Book) release(containerID, ifname string) error {
	if err := b.store.Lock(); err != nil {
		return err
	}
	return errors.Join(b.store.ReleaseByID(containerID, ifname), b.store.Unlock())
}

// Find returns the attachment of a request, or nil.
func (b *Book) Find(r Request) *world.Attachment {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.list[r.key()]
}

// Bury strikes out every attachment that has a tombstone.
func (b *Book) Bury() error {
	stones, err := os.ReadDir(tombstones(b.dir))
	if err != nil {
		return fmt.Errorf("read tombstones: %w", err)
	}
	var errs []error
	for _, s := range stones {
		b.mu.Lock()
		err := b.detach(s.Name())
		b.mu.Unlock()
		if err == nil {
			err = os.Remove(filepath.Join(tombstones(b.dir), s.Name()))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("honour tombstone %s: %w", s.Name(), err))
		}
	}
	return errors.Join(errs...)
}

// Pools counts the addresses of each CIDR that are taken.
func (b *Book) Pools(cidrs []netip.Prefix) ([]doctor.Pool, error) {
	taken, err := b.taken()
	if err != nil {
		return nil, err
	}
	var out []doctor.Pool
	for _, c := range cidrs {
		p := doctor.Pool{CIDR: c.String(), Size: poolSize(c)}
		for addr := range taken {
			if c.Contains(addr) {
				p.Used++
			}
		}
		out = append(out, p)
	}
	return out, nil
}

// poolSize is what the allocator can give of c: not the first address, not the
// node's own, and in IPv4 not the broadcast address.
func poolSize(c netip.Prefix) int {
	bits := c.Addr().BitLen() - c.Bits()
	if bits > 30 {
		return doctor.Countless
	}
	if c.Addr().Is6() {
		return 1<<bits - 2
	}
	return 1<<bits - 3
}

// taken lists the addresses in the store, with whom they belong to.
func (b *Book) taken() (map[netip.Addr]string, error) {
	dir := filepath.Join(addresses(b.dir), network)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	out := map[netip.Addr]string{}
	for _, e := range entries {
		addr, err := netip.ParseAddr(e.Name())
		if err != nil {
			continue // the store's own notes
		}
		content, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		out[addr] = string(content)
	}
	return out, nil
}

func (b *Book) releaseOrphans() error {
	taken, err := b.taken()
	if err != nil {
		return err
	}
	for _, owner := range taken {
		containerID, ifname, _ := strings.Cut(owner, disk.LineBreak)
		if b.list[key(containerID, ifname)] == nil {
			if err := b.release(containerID, ifname); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeFile replaces a file whole: a crash leaves the old one or the new one.
func writeFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
