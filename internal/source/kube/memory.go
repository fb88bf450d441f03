package kube

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"fairlead.dev/fairlead/internal/replace"
	"fairlead.dev/fairlead/internal/world"
)

// A memory keeps the objects of one kind on disk, for an agent that starts while
// no API server answers. It is a file of lines: a head, then an object each, of
// which the last with a key counts. A change is a line more, so that one pod of
// 100,000 costs one.
type memory[T any] struct {
	path  string // "": nothing is kept
	head  head
	ours  bool                   // the file holds what was kept last, and nothing else
	lines int                    // of it that later ones may have outdated
	stale map[world.Key]struct{} // what changed since
}

// A head says what the lines after it are. A file with another one is not read.
type head struct {
	Version int
	Kind    string
	Fields  string // the selector of those that are kept
	Objects int    // that follow at least: a file that was cut tells of fewer, which are not all there are
}

const memoryVersion = 1

// A line is an object as it came to be, or the key of one that is gone.
type line[T any] struct {
	Value *T         `json:",omitempty"`
	Gone  *world.Key `json:",omitempty"`
}

// mostOutdated is how many lines may be outdated besides one an object.
const mostOutdated = 1000

func newMemory[T any](dir string, kind, resource, fields string) memory[T] {
	m := memory[T]{head: head{memoryVersion, kind, fields, 0}, stale: map[world.Key]struct{}{}}
	if dir != "" {
		m.path = filepath.Join(dir, resource+".jsonl")
	}
	return m
}

// recall returns what was kept, in no order. Where nothing was, or something else,
// the error says so.
func (m *memory[T]) recall(key func(*T) world.Key) ([]*T, error) {
	if m.path == "" {
		return nil, errors.New("nothing is kept on disk")
	}
	f, err := os.Open(m.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d := json.NewDecoder(bufio.NewReader(f))
	var h head
	err = d.Decode(&h)
	objects := h.Objects
	if h.Objects = 0; err != nil || h != m.head {
		return nil, fmt.Errorf("%s is of another version or selection", m.path)
	}
	found := map[world.Key]*T{}
	for {
		var l line[T]
		err := d.Decode(&l)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break // a line that was not written to its end was never acted upon
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.path, err)
		}
		switch {
		case l.Gone != nil:
			delete(found, *l.Gone)
		case l.Value != nil:
			found[key(l.Value)] = l.Value
			objects--
		}
	}
	if objects > 0 {
		return nil, fmt.Errorf("%s was cut: it lacks %d objects", m.path, objects)
	}
	out := make([]*T, 0, len(found))
	for _, v := range found {
		out = append(out, v)
	}
	return out, nil
}

// note takes down what changed. Where the file is to be written anew, it need not
// be known.
func (m *memory[T]) note(changed ...world.Key) {
	if !m.ours {
		return
	}
	for _, k := range changed {
		m.stale[k] = struct{}{}
	}
}

// keep brings the file up to date with l.
func (m *memory[T]) keep(l *list[T]) (err error) {
	if m.path == "" || m.ours && len(m.stale) == 0 {
		return nil
	}
	if !m.ours || m.lines+len(m.stale) > l.all.Len()+mostOutdated {
		err = m.rewrite(l)
	} else {
		err = m.add(l)
	}
	if m.ours = err == nil; m.ours {
		clear(m.stale)
	}
	return err
}

func (m *memory[T]) rewrite(l *list[T]) error {
	m.lines = 0
	return replace.With(m.path, 0o600, func(w io.Writer) error {
		e := json.NewEncoder(w)
		h := m.head
		h.Objects = l.all.Len()
		if err := e.Encode(h); err != nil {
			return err
		}
		for v := range l.all.All() {
			if err := e.Encode(line[T]{Value: v}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (m *memory[T]) add(l *list[T]) error {
	f, err := os.OpenFile(m.path, os.O_WRONLY|os.O_APPEND, 0)
	if errors.Is(err, os.ErrNotExist) {
		return m.rewrite(l) // somebody removed it
	}
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	e := json.NewEncoder(w)
	for k := range m.stale {
		now := line[T]{Value: l.get(k)}
		if now.Value == nil {
			now.Gone = &k
		}
		err = errors.Join(err, e.Encode(now))
	}
	m.lines += len(m.stale)
	return errors.Join(err, w.Flush(), f.Close())
}
