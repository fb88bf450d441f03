package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"fairlead.dev/fairlead/internal/replace"
	"fairlead.dev/fairlead/internal/world"
)

// A record is one attachment, as in its file.
type record struct {
	world.Attachment
	Network string // the name in the runtime's configuration
}

// sumAt begins a file: eight digits of a checksum of all that is behind them and a
// quote and comma. A flipped bit in an address would be another pod's address. To a
// reader that does not know of it, it is one member more.
const sumAt = `{"Sum":"`

const sumEnds = len(sumAt) + 8

func (r *record) encode() ([]byte, error) {
	content, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	rest := append([]byte(`",`), content[1:]...)
	return append(fmt.Appendf([]byte(sumAt), "%08x", crc32.ChecksumIEEE(rest)), rest...), nil
}

// decodeRecord reads what encode wrote for the key. Earlier agents wrote no checksum.
func decodeRecord(key string, content []byte) (*record, error) {
	if bytes.HasPrefix(content, []byte(sumAt)) {
		if len(content) < sumEnds || fmt.Sprintf("%08x", crc32.ChecksumIEEE(content[sumEnds:])) != string(content[len(sumAt):sumEnds]) {
			return nil, errors.New("it is not as it was written")
		}
	}
	r := &record{}
	if err := json.Unmarshal(content, r); err != nil {
		return nil, err
	}
	q := Request{ContainerID: r.ContainerID, Interface: r.Interface}
	if err := q.Validate(); err != nil {
		return nil, err
	}
	if r.Key() != key {
		return nil, fmt.Errorf("it is that of %s", r.Key())
	}
	if slices.ContainsFunc(r.Addresses, func(a netip.Addr) bool { return !a.IsValid() || a.Zone() != "" || a.Is4In6() }) {
		return nil, fmt.Errorf("addresses %v are no pod's", r.Addresses)
	}
	return r, nil
}

// read reads all records. What cannot be read is set aside: one file keeps neither
// the agent from starting nor the other pods from being known.
func (b *Book) read() {
	found, err := os.ReadDir(b.records())
	if err != nil {
		b.suffer(err)
	}
	for _, e := range found {
		path := filepath.Join(b.records(), e.Name())
		if key, was := strings.CutSuffix(e.Name(), recordEnd+replace.Damaged); was {
			b.damaged[key] = true
		}
		key, is := strings.CutSuffix(e.Name(), recordEnd)
		if !is {
			continue
		}
		content, err := os.ReadFile(path)
		var r *record
		if err == nil {
			r, err = decodeRecord(key, content)
		}
		if err != nil {
			b.damaged[key] = true
			b.suffer(replace.Aside(path, err))
			continue
		}
		b.list[key] = r
	}
}

// write puts a record on the disk. Where that fails the attachment counts all the
// same, and is tried again: an agent that starts meanwhile finds its addresses on its
// wire.
func (b *Book) write(key string) error {
	content, err := b.list[key].encode()
	if err == nil {
		err = replace.File(b.record(key), content, 0o600)
	}
	return b.owe(key, err)
}

// erase removes the record of an attachment that was struck out, and what was set
// aside of it. Where that fails it is tried again: an agent that starts meanwhile
// finds neither its wire nor its namespace.
func (b *Book) erase(key string) error {
	err := os.Remove(b.record(key))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if b.damaged[key] {
		delete(b.damaged, key)
		err = errors.Join(err, os.RemoveAll(b.record(key)+replace.Damaged), os.RemoveAll(b.record(key)))
	}
	return b.owe(key, err)
}

// owe notes whether the disk lags behind for a key.
func (b *Book) owe(key string, err error) error {
	delete(b.owed, key)
	if err != nil {
		b.owed[key] = true
	}
	return err
}

// Settle brings the disk up to date with the book, where it is not, and returns how
// many records lag behind and why.
func (b *Book) Settle() (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for key := range b.owed {
		if b.list[key] != nil {
			errs = append(errs, b.write(key))
		} else {
			errs = append(errs, b.erase(key))
		}
	}
	return len(b.owed), errors.Join(errs...)
}
