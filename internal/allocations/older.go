package allocations

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"fairlead.dev/fairlead/internal/journal"
)

// Releases before the journal kept all allocations in one object, which they wrote anew
// for every change. What they left is read once. For an agent of such a release that comes
// after this one, its file is written when this agent ends: from then on both say the same.
// Meanwhile there stands a file that it cannot read, and what it says of that is a
// sentence for people: an outdated file would have it give ports to two pods.

func olderPath(stateDir string) string { return filepath.Join(stateDir, "allocations.json") }

// oursMember is a member that only this release writes: an earlier one leaves it out as
// soon as it changes anything.
const oursMember = "journal"

// marker is no time, and that is what an earlier release says.
const marker = `{"journal":"allocations.journal","blocks":[{"freedAt":"allocations of this node are in allocations.journal, ` +
	`which this release does not know, as the agent of a later one did not end by itself: start that, and end it"}]}` + "\n"

// olderFile is the file as it was found.
type olderFile struct {
	ours   bool // this release wrote it
	marker bool // it says nothing
	values []journal.Value
}

// readOlder reads the file. Where there is none, or nothing can be read of it, it is nil.
func readOlder(stateDir string, kinds []journal.Kind) (*olderFile, error) {
	content, err := os.ReadFile(olderPath(stateDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if string(content) == marker {
		return &olderFile{ours: true, marker: true}, nil
	}
	var members map[string]json.RawMessage
	if err == nil {
		err = json.Unmarshal(content, &members)
	}
	if err != nil {
		return nil, err
	}
	f := &olderFile{}
	_, f.ours = members[oursMember]
	for _, kind := range kinds {
		if kind.Old == nil || members[kind.Old.Member] == nil {
			continue
		}
		values, oerr := kind.Old.Read(members[kind.Old.Member])
		if oerr != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", kind.Old.Member, oerr))
		}
		for _, v := range values {
			v.Kind = kind.Name
			f.values = append(f.values, v)
		}
	}
	return f, err
}

// over is found with all that an earlier release knew as its file has it.
func (f *olderFile) over(found journal.Found, kinds []journal.Kind) journal.Found {
	knew := func(kind string) bool {
		return slices.ContainsFunc(kinds, func(k journal.Kind) bool { return k.Name == kind && k.Old != nil })
	}
	found.Values = slices.DeleteFunc(found.Values, func(v journal.Value) bool { return knew(v.Kind) })
	found.Lost = slices.DeleteFunc(found.Lost, func(d journal.Damage) bool { return knew(d.Kind) })
	found.Values = append(found.Values, f.values...)
	return found
}

// mark has an earlier release find nothing that it takes for all that is allocated.
func (k *Kept) mark() error {
	err := journal.Put(k.Journal.Disk, olderPath(k.stateDir), func(w io.Writer) error {
		_, err := io.WriteString(w, marker)
		return err
	})
	k.marked = err == nil
	return err
}

// HandOver leaves the file of an earlier release, which says the same as the journal.
func (k *Kept) HandOver() error {
	if !k.Journal.Begun() || k.stale {
		return nil // the marker says that there is something
	}
	all, _, err := k.changed(nil, k.onDisk)
	if err != nil {
		return err
	}
	members := map[string]any{oursMember: filepath.Base(File(k.stateDir))}
	for _, kind := range k.kinds {
		of := slices.DeleteFunc(slices.Clone(all), func(v journal.Value) bool { return v.Kind != kind.Name })
		if kind.Old == nil || len(of) == 0 {
			continue
		}
		if members[kind.Old.Member], err = kind.Old.Write(of); err != nil {
			return err
		}
	}
	k.marked = false
	return journal.Put(k.Journal.Disk, olderPath(k.stateDir), func(w io.Writer) error { return json.NewEncoder(w).Encode(members) })
}
