package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/replace"
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

	mu   sync.Mutex
	list map[string]*record // by the attachment's key
	last given
	gone map[string]bool    // keys of those whose namespace was not there at the last look
	view *world.Attachments // what Attachments returns; a new pointer after every change
}

// A record is one attachment, as in its file.
type record struct {
	world.Attachment
	Network string // the name in the runtime's configuration
}

// bootIDFile is the kernel's name for the time since it was started (random(4)).
const bootIDFile = "/proc/sys/kernel/random/boot_id"

// BootID names the time since the kernel was started.
func BootID() (string, error) {
	content, err := os.ReadFile(bootIDFile)
	return strings.TrimSpace(string(content)), err
}

// OpenBook opens the address book in the state directory. What was written in
// another boot than the one named is forgotten.
func OpenBook(stateDir, boot string) (*Book, error) {
	b := &Book{dir: stateDir, boot: boot, list: map[string]*record{}, gone: map[string]bool{}, Gone: func(*world.Attachment) bool { return false }}
	if !isName(boot, longestContainerID) {
		return nil, fmt.Errorf("open address book: boot id %s is none", quote.Of(boot))
	}
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
	return []string{boots(stateDir), tombstones(stateDir), lastFile(stateDir), filepath.Join(stateDir, lockFile)}
}

// Close lets another agent have the book.
func (b *Book) Close() error { return b.lock.Close() }

// Forgotten is how many attachments of earlier boots were forgotten when the
// book was opened.
func (b *Book) Forgotten() int { return b.forgotten }

func (b *Book) open() error {
	for _, dir := range []string{b.records(), tombstones(b.dir)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if err := b.forget(); err != nil {
		return err
	}
	b.last = readGiven(lastFile(b.dir))
	files, err := recordsIn(b.records())
	if err != nil {
		return err
	}
	for _, file := range files {
		r, err := readRecord(file)
		if err != nil {
			return fmt.Errorf("%s: %w; remove the file if its pod is gone", file, err)
		}
		b.list[r.Key()] = r
	}
	b.changed()
	return nil
}

// forget removes what earlier boots left.
func (b *Book) forget() error {
	found, err := os.ReadDir(boots(b.dir))
	if err != nil {
		return err
	}
	for _, d := range found {
		if d.Name() == b.boot {
			continue
		}
		path := filepath.Join(boots(b.dir), d.Name())
		old, err := recordsIn(path)
		if err != nil {
			return err
		}
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		b.forgotten += len(old)
	}
	return nil
}

// recordsIn are the paths of the records in a folder.
func recordsIn(folder string) ([]string, error) {
	found, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range found {
		if filepath.Ext(e.Name()) == ".json" {
			out = append(out, filepath.Join(folder, e.Name()))
		}
	}
	return out, nil
}

// boots is the folder of all records, with a folder for each boot.
func boots(stateDir string) string { return filepath.Join(stateDir, "attachments") }

func (b *Book) records() string { return filepath.Join(boots(b.dir), b.boot) }

func (b *Book) record(key string) string { return filepath.Join(b.records(), key+".json") }

func readRecord(file string) (*record, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := &record{}
	return r, json.Unmarshal(content, r)
}

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
	content, err := json.Marshal(r)
	if err == nil {
		err = errors.Join(replace.File(b.record(a.Key()), content, 0o600), b.last.write(lastFile(b.dir)))
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(b.record(a.Key())))
	}
	b.list[a.Key()] = r
	b.changed()
	return &r.Attachment, nil
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
			if err := b.detach(key); err != nil {
				return err
			}
			break
		}
	}
	return nil
}

// Detach strikes the attachment out and frees its addresses. One that is not in
// the book is no error.
func (b *Book) Detach(key string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.detach(key)
}

func (b *Book) detach(key string) error {
	if b.list[key] == nil {
		return nil
	}
	if err := os.Remove(b.record(key)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	delete(b.list, key)
	delete(b.gone, key)
	b.changed()
	return nil
}

// Find returns the attachment, or nil.
func (b *Book) Find(key string) *world.Attachment {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.list[key]; r != nil {
		return &r.Attachment
	}
	return nil
}
