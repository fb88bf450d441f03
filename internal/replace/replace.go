// Package replace puts files in place whole: whoever reads one sees the old
// content or the new, never half of it.
package replace

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// File makes content the content of the file at path, and the directory if need
// be. What is written is not waited for to be on the disk: a machine that loses
// power may find the file empty.
func File(path string, content []byte, mode fs.FileMode) error {
	return With(path, mode, func(w io.Writer) error {
		_, err := w.Write(content)
		return err
	})
}

// With is File for content that is too large to be in memory at once.
func With(path string, mode fs.FileMode, write func(io.Writer) error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), temporary(path))
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	if err = errors.Join(write(w), w.Flush(), f.Chmod(mode), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// temporary is the pattern of the names of files that are being written. They end
// as no manifest and no configuration does.
func temporary(path string) string { return "." + filepath.Base(path) + "-*.tmp" }

// Leftovers are the files beside path that writers left which were killed.
func Leftovers(path string) []string {
	found, _ := filepath.Glob(filepath.Join(filepath.Dir(path), temporary(path))) // fails for patterns in path only
	return found
}
