// Package journal keeps named values on the disk: in a file of lines, one for each
// value that changed, of which the last with a name counts. A value of 50,000 that
// changes costs its line and one fsync; a line that is damaged costs its value and no
// other. Where more lines are outdated than count, the file is written anew.
package journal

import (
	"errors"
	"io"
	"io/fs"
	"time"
)

// A Value is a value by its name, which is a kind and a key.
type Value struct {
	Kind, Key string
	At        time.Time // when it came to be, in whole seconds; zero: nobody asks
	JSON      []byte    // in one line; nil: it is no more
}

// mostOutdated is how many lines may be outdated besides as many as count, so that a
// small file is not written anew all the time.
const mostOutdated = 64

// A Journal is a file of values that one process writes.
type Journal struct {
	Path string
	Disk Disk

	begun bool  // the file is there, and holds what was written last
	size  int64 // of it
	lines int   // in it, the head not counted
	live  int   // of them that count
}

// Begun reports whether the file holds what was read or written last. Where it does
// not, all values are written anew.
func (j *Journal) Begun() bool { return j.begun }

// Write puts what changed on the disk, and returns once it is there. More is how many
// values there are more than before. Where the file is to be written anew, all are
// asked for: that is their order from then on. After an error nothing is known of the
// file, and the next Write writes it anew.
func (j *Journal) Write(changed []Value, more int, all func() []Value) error {
	if !j.begun || j.lines+len(changed) > 2*(j.live+more)+mostOutdated {
		return j.replace(all())
	}
	if len(changed) == 0 {
		return nil
	}
	j.begun = false
	err := j.add(changed)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errOthers) {
		return j.replace(all())
	}
	if err != nil {
		return err
	}
	j.begun, j.lines, j.live = true, j.lines+len(changed), j.live+more
	return nil
}

// errOthers says that somebody else changed the file.
var errOthers = errors.New("the journal is not as it was left")

func (j *Journal) add(changed []Value) error {
	var text []byte
	for _, v := range changed {
		var err error
		if text, err = v.appendTo(text); err != nil {
			return err
		}
	}
	f, err := j.Disk.Append(j.Path)
	if err != nil {
		return err
	}
	size, err := f.Size()
	if err == nil && size != j.size {
		err = errOthers
	}
	if err == nil {
		_, err = f.Write(text)
	}
	if err == nil {
		err = f.Sync()
	}
	j.size += int64(len(text))
	return errors.Join(err, f.Close())
}

// replace puts a new file in the place of the old one, whole.
func (j *Journal) replace(all []Value) error {
	j.begun = false
	var c counter
	if err := Put(j.Disk, j.Path, func(w io.Writer) error { c.Writer = w; return writeAll(&c, all) }); err != nil {
		return err
	}
	j.begun, j.size, j.lines, j.live = true, c.n, len(all), len(all)
	return nil
}

// writeAll writes a journal of the given values.
func writeAll(w io.Writer, all []Value) error {
	if _, err := w.Write(head{len(all)}.appendTo(nil)); err != nil {
		return err
	}
	var line []byte
	for _, v := range all {
		var err error
		if line, err = v.appendTo(line[:0]); err != nil {
			return err
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
	return nil
}

// counter counts what is written.
type counter struct {
	io.Writer
	n int64
}

func (c *counter) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	c.n += int64(n)
	return n, err
}
