package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/e2e/enter"
)

// base holds a directory for each cluster. It is on disk, because containers'
// images are in it.
const base = "/var/lib/fairlead-e2e"

// A state is what is known of a cluster, in its directory.
type state struct {
	Config   Config
	Programs programs
	Index    int                 // of the underlay network, which no other cluster of the machine has
	Cgroups  map[string][]string // of each node
	Pods     map[string][]string // each node's pod CIDRs, for the reference network
}

func dirOf(name string) string { return filepath.Join(base, name) }

// dir is a path in the cluster's directory.
func (c *Cluster) dir(path ...string) string {
	return filepath.Join(append([]string{dirOf(c.config.Name)}, path...)...)
}

func (c *Cluster) save() error {
	c.state.Config, c.state.Programs = c.config, c.programs
	b, err := json.MarshalIndent(c.state, "", "\t")
	if err != nil {
		return err
	}
	temporary := c.dir("state.json.new")
	if err := os.WriteFile(temporary, b, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, c.dir("state.json"))
}

// Open finds a cluster that is up.
func Open(name string) (*Cluster, error) {
	c := &Cluster{config: Config{Name: name}}
	b, err := os.ReadFile(c.dir("state.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("no cluster %s is up: %w", name, err)
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(b, &c.state); err != nil {
		return nil, fmt.Errorf("cluster %s: %w", name, err)
	}
	c.config, c.programs = c.state.Config, c.state.Programs
	c.config.Log = io.Discard
	return c, nil
}

// LogTo reports progress to w from now on.
func (c *Cluster) LogTo(w io.Writer) { c.config.Log, c.begin = w, time.Now() }

// List names the clusters of this machine.
func List() ([]string, error) {
	entries, err := os.ReadDir(base)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// marker is in the environment of every process of the cluster, but not of its
// containers: those end with their node's first process.
func marker(name string) string { return "FAIRLEAD_E2E_CLUSTER=" + name }

// Down ends the cluster and removes all that is left of it.
func (c *Cluster) Down(ctx context.Context) error { return Down(ctx, c.config.Name) }

// Down ends the cluster called name and removes all that is left of it, also of
// one that was never wholly up. One that is gone already is no error.
func Down(ctx context.Context, name string) error {
	dir := dirOf(name)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := enter.Kill(ctx, marker(name)); err != nil {
		return fmt.Errorf("end the cluster's processes: %w", err)
	}
	var s state
	if b, err := os.ReadFile(filepath.Join(dir, "state.json")); err == nil {
		if err := json.Unmarshal(b, &s); err != nil {
			return fmt.Errorf("read what is to be removed: %w", err)
		}
	}
	spaces, err := filepath.Glob(enter.Netns(netnsName(name, "*")))
	for _, path := range spaces {
		err = errors.Join(err, enter.DeleteNetns(filepath.Base(path)))
	}
	if s.Index != 0 {
		err = errors.Join(err, removeHostLink(s.Index))
	}
	for _, dirs := range s.Cgroups {
		err = errors.Join(err, enter.RemoveCgroups(dirs))
	}
	if err = errors.Join(err, unmountBelow(dir)); err != nil {
		return fmt.Errorf("cluster %s: %w", name, err) // and what is known of it stays, for another try
	}
	return errors.Join(os.RemoveAll(dir), restoreLimits())
}

// unmountBelow unmounts what is mounted below dir. Nodes have their mounts to
// themselves, so usually that is nothing.
func unmountBelow(dir string) error {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(b)) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], dir+"/") {
			err = errors.Join(err, unix.Unmount(fields[1], unix.MNT_DETACH))
		}
	}
	return err
}
