package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"fairlead.dev/fairlead/internal/replace"
)

// An agent reads its objects, and what others report, by links of its own. They lead to
// the lab's directories, or to copies of these while its source is away: then it reads
// nothing new, and what it writes reaches nobody.

// sources are the directories that an agent has links to.
func (n *node) sources() map[string]string {
	return map[string]string{"objects": n.lab.objects(), "reports": n.lab.reports()}
}

// source is the link to one of them.
func (n *node) source(name string) string { return filepath.Join(n.lab.nodeDir(n.Name), name) }

func (n *node) copyOf(name string) string { return n.source(name) + ".away" }

// sourceAway cuts the agent from its source. Nobody may write objects meanwhile.
func (n *node) sourceAway() error {
	if n.isAway() {
		return nil
	}
	for name, from := range n.sources() {
		if err := copyFiles(from, n.copyOf(name)); err != nil {
			return fmt.Errorf("copy %s: %w", name, err)
		}
	}
	n.setAway(true)
	var err error
	for name := range n.sources() {
		err = errors.Join(err, lead(n.source(name), n.copyOf(name)))
	}
	return err
}

// sourceBack gives the agent its source back, and tells the others what it wrote
// meanwhile.
func (n *node) sourceBack() error {
	var err error
	for name, to := range n.sources() {
		err = errors.Join(err, lead(n.source(name), to))
	}
	written, globErr := filepath.Glob(filepath.Join(n.copyOf("reports"), n.Name+".*"))
	err = errors.Join(err, globErr)
	for _, path := range written {
		b, readErr := os.ReadFile(path)
		if readErr == nil {
			readErr = replace.File(filepath.Join(n.lab.reports(), filepath.Base(path)), b, 0o644)
		}
		err = errors.Join(err, readErr)
	}
	for name := range n.sources() {
		err = errors.Join(err, os.RemoveAll(n.copyOf(name)))
	}
	n.setAway(false)
	return err
}

func (n *node) isAway() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.away
}

func (n *node) setAway(yes bool) {
	n.mu.Lock()
	n.away = yes
	n.mu.Unlock()
}

// lead makes link one to the directory, at once.
func lead(link, to string) error {
	next := link + ".next"
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.Symlink(to, next); err != nil {
		return err
	}
	return os.Rename(next, link)
}

// copyFiles copies what a directory has. What is half written, or goes meanwhile, stays
// out.
func copyFiles(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(from, e.Name()))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(to, e.Name()), b, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
