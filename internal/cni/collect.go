package cni

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"fairlead.dev/fairlead/internal/world"
)

// Bury strikes out every attachment that has a tombstone.
func (b *Book) Bury() error {
	stones, err := os.ReadDir(tombstones(b.dir))
	if err != nil && !errors.Is(err, os.ErrNotExist) { // nobody has left any
		return fmt.Errorf("read tombstones: %w", err)
	}
	var errs []error
	for _, s := range stones {
		b.Detach(s.Name())
		if err := os.Remove(filepath.Join(tombstones(b.dir), s.Name())); err != nil {
			errs = append(errs, fmt.Errorf("honour tombstone %s: %w", s.Name(), err))
		}
	}
	return errors.Join(errs...)
}

// Buried reports whether the attachment has a tombstone.
func (b *Book) Buried(key string) bool {
	_, err := os.Lstat(filepath.Join(tombstones(b.dir), key))
	return err == nil
}

// Collect strikes out and returns the attachments whose network namespace is known
// to be gone, and was at the last look too: their DEL never came.
func (b *Book) Collect() []*world.Attachment {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.strike(func(r *record) bool {
		key := r.Key()
		if !b.Gone(&r.Attachment) {
			delete(b.gone, key)
			return false
		}
		before := b.gone[key]
		b.gone[key] = true
		return before
	})
}

// Keep strikes out and returns all attachments to the network but those whose
// keys are given. Where none is given, only those go that are known to be gone: a
// runtime that lost what it knew says the same as one that has no pods.
func (b *Book) Keep(network string, keys map[string]bool) []*world.Attachment {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.strike(func(r *record) bool {
		return r.Wire == "" && r.Network == network && !keys[r.Key()] && (len(keys) > 0 || b.Gone(&r.Attachment))
	})
}

// strike strikes out those that are to go.
func (b *Book) strike(out func(*record) bool) []*world.Attachment {
	var struck []*world.Attachment
	for key, r := range b.list {
		if out(r) {
			b.detach(key)
			struck = append(struck, &r.Attachment)
		}
	}
	return struck
}
