package journal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// A Disk is where files are: what a journal asks of it, call by call, so that tests
// can stop it after each.
type Disk interface {
	Create(path string) (File, error) // an empty one
	Append(path string) (File, error) // to one that is there
	Rename(from, to string) error
	SyncDir(path string) error
}

// A File is an open file that is written to at its end.
type File interface {
	io.WriteCloser
	Size() (int64, error)
	Sync() error
}

// Local is the disk of this machine.
type Local struct{}

type localFile struct{ *os.File }

// Create is part of Disk.
func (Local) Create(path string) (File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	return localFile{f}, err
}

// Append is part of Disk.
func (Local) Append(path string) (File, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	return localFile{f}, err
}

// Rename is part of Disk.
func (Local) Rename(from, to string) error { return os.Rename(from, to) }

// SyncDir is part of Disk.
func (Local) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Size is part of File.
func (f localFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Unfinished is the name of a file while Put writes it.
func Unfinished(path string) string { return path + ".new" }

// Put puts a file in place whole, once its content is on the disk, and returns once its
// name is there too.
func Put(d Disk, path string, write func(io.Writer) error) error {
	f, err := d.Create(Unfinished(path))
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<16)
	if err = write(w); err == nil {
		err = w.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := d.Rename(Unfinished(path), path); err != nil {
		return err
	}
	if err := d.SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("sync %s: %w", filepath.Dir(path), err)
	}
	return nil
}
