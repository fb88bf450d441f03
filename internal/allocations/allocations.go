// Package allocations keeps on the disk what a node allocated, which must not change by
// itself: a journal of kinds that features and the door bring along. What releases before
// the journal wrote is read once (older.go).
package allocations

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"fairlead.dev/fairlead/internal/journal"
	"fairlead.dev/fairlead/internal/replace"
	"fairlead.dev/fairlead/internal/world"
)

// File is where an agent with the given state directory keeps what it allocated.
func File(stateDir string) string { return filepath.Join(stateDir, "allocations.journal") }

// Files are all that agents may have left of it, some of it half written.
func Files(stateDir string) []string {
	return []string{journal.Unfinished(File(stateDir)), journal.Unfinished(olderPath(stateDir)), File(stateDir), olderPath(stateDir)}
}

// Kept is what the node allocated, on the disk.
type Kept struct {
	kinds    []journal.Kind
	stateDir string
	Journal  *journal.Journal
	others   []journal.Value  // of kinds that nobody here knows, such as a later release's
	onDisk   *world.Parts     // what the file says
	stale    bool             // the file says something else, or what it says was damaged
	marked   bool             // an earlier release finds nothing that is outdated
	lost     []journal.Damage // when it was opened
	dates    dates
}

// dates are when values of kinds came to be that people ask for.
type dates struct {
	mu sync.Mutex
	of map[string]map[string]time.Time // by kind, for those that are dated, and key
}

func (d *dates) since(kind, key string) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.of[kind][key]
}

// Open reads what agents before this one allocated. What could not be read is told
// by the errors, and all else counts.
//
// Of a later release's journal nothing is known, and it is an error: whoever began anew
// would give to others what pods have.
func Open(stateDir string, kinds []journal.Kind, disk journal.Disk) (_ *Kept, troubles []error, err error) {
	k := &Kept{kinds: kinds, stateDir: stateDir, onDisk: &world.Parts{}, dates: dates{of: map[string]map[string]time.Time{}}}
	path := File(stateDir)
	file, found, err := journal.Open(path, disk)
	if errors.Is(err, journal.ErrVersion) {
		return nil, nil, fmt.Errorf("%s: %w: a later release wrote it, so start that, or remove the file and every pod of this node", path, err)
	}
	k.Journal = file
	older, oldErr := readOlder(stateDir, kinds)
	missing := errors.Is(err, fs.ErrNotExist)
	switch {
	case missing && (older == nil || !older.marker): // nobody wrote one
	case err != nil:
		troubles = append(troubles, replace.Aside(path, err))
	case len(found.Lost) > 0:
		troubles = append(troubles, replace.Copy(path, errors.New(journal.Say(found.Lost))))
	}
	switch {
	case oldErr != nil && older == nil:
		troubles = append(troubles, replace.Aside(olderPath(stateDir), oldErr))
	case oldErr != nil:
		troubles = append(troubles, replace.Copy(olderPath(stateDir), oldErr))
	}
	if older != nil {
		k.marked = older.marker
		if !older.ours || !older.marker && err != nil {
			found, k.stale = older.over(found, kinds), true
		}
	}
	k.read(found)
	k.stale = k.stale || len(k.lost) > 0
	return k, troubles, nil
}

// read takes what was found for what is on the disk.
func (k *Kept) read(found journal.Found) {
	k.lost = found.Lost
	values, lost := map[string][]journal.Value{}, map[string][]string{}
	for _, v := range found.Values {
		values[v.Kind] = append(values[v.Kind], v)
	}
	for _, d := range found.Lost {
		lost[d.Kind] = append(lost[d.Kind], d.Key)
	}
	for _, kind := range k.kinds {
		part, wrong := kind.Read(values[kind.Name], lost[kind.Name])
		k.onDisk = k.onDisk.With(part)
		for _, d := range wrong {
			d.Kind = kind.Name
			k.lost = append(k.lost, d)
		}
		if kind.Dated {
			of := map[string]time.Time{}
			for _, v := range values[kind.Name] {
				of[v.Key] = v.At
			}
			k.dates.of[kind.Name] = of
		}
		delete(values, kind.Name)
	}
	for _, v := range found.Values {
		if values[v.Kind] != nil {
			k.others = append(k.others, v)
		}
	}
}

// OnDisk is what the disk has.
func (k *Kept) OnDisk() *world.Parts { return k.onDisk }

// Since is when a value of a kind that is dated came to be; zero where that is not known.
func (k *Kept) Since(kind, key string) time.Time { return k.dates.since(kind, key) }

// Problem says what was lost on the disk, which stays so for this agent.
func (k *Kept) Problem(node string) []world.Problem {
	if len(k.lost) == 0 {
		return nil
	}
	return []world.Problem{{Object: "Node " + node, Field: "state directory",
		Reason: fmt.Sprintf("%d values of %s were damaged (%s); all others count, and what they named is given to nobody before all else is",
			len(k.lost), filepath.Base(File(k.stateDir)), journal.Say(k.lost)),
		Hint: "look after the disk of the node; the damaged file is " + File(k.stateDir) + replace.Damaged}}
}

// Allocate notes when what differs between two turns' allocations came to be.
func (k *Kept) Allocate(last, now *world.Parts, at time.Time) {
	k.dates.mu.Lock()
	defer k.dates.mu.Unlock()
	for _, kind := range k.kinds {
		if !kind.Dated {
			continue
		}
		of := k.dates.of[kind.Name]
		kind.Changed(last, now, func(c journal.Change) {
			if of[c.Key] = at.UTC().Truncate(time.Second); c.Value == nil {
				delete(of, c.Key)
			}
		})
	}
}

// Write puts on the disk what it has otherwise.
func (k *Kept) Write(now *world.Parts) error {
	changed, more, err := k.changed(k.onDisk, now)
	if err != nil || len(changed) == 0 && !k.stale {
		return err
	}
	k.stale = true
	all := func() []journal.Value {
		var list []journal.Value
		if list, _, err = k.changed(nil, now); err != nil {
			return nil
		}
		return append(list, k.others...)
	}
	if !k.marked && k.Journal.Begun() {
		if err := k.mark(); err != nil {
			return err
		}
	}
	if werr := k.Journal.Write(changed, more, all); err == nil {
		err = werr
	}
	if err == nil && !k.marked {
		err = k.mark()
	}
	if err != nil {
		return err
	}
	k.onDisk, k.stale = now, false
	return nil
}

// changed are the values that lead from last to now, and how many there are more.
func (k *Kept) changed(last, now *world.Parts) (out []journal.Value, more int, err error) {
	for _, kind := range k.kinds {
		kind.Changed(last, now, func(c journal.Change) {
			switch {
			case c.Value == nil:
				more--
			case !c.Had:
				more++
			}
			v, verr := journal.ValueOf(c.Key, k.dates.since(kind.Name, c.Key), c.Value)
			v.Kind, err = kind.Name, errors.Join(err, verr)
			out = append(out, v)
		})
	}
	return out, more, err
}
