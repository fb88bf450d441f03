package cni

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"fairlead.dev/fairlead/internal/replace"
	"fairlead.dev/fairlead/internal/world"
)

// An Offering shows the pod network to the container runtime: the plugin's binary,
// and a network configuration. Both stay when the agent ends.
type Offering struct {
	ConfDir, BinDir  string // where the runtime looks for networks and for plugins; "": it is not shown ours
	Socket, StateDir string // of the agent
	Log              *slog.Logger

	installed os.FileInfo // the binary in its place, as it was left
}

// Make makes the offering for settings of a node, or repairs it. Where another CNI makes
// the pods' network there is no configuration of ours.
func (o *Offering) Make(c *world.Config) error {
	// The configuration comes second: a runtime that sees it calls the plugin.
	if dir := o.BinDir; dir != "" {
		if err := o.install(filepath.Join(dir, PluginFile)); err != nil {
			return fmt.Errorf("install the plugin: %w", err)
		}
	}
	if dir := o.ConfDir; dir != "" {
		if err := o.configure(filepath.Join(dir, ConfigFile), c); err != nil {
			return fmt.Errorf("write the network configuration: %w", err)
		}
	}
	return nil
}

func (o *Offering) configure(path string, c *world.Config) error {
	if c.Overlay.Mode == world.None {
		return withdraw(path)
	}
	socket, err := filepath.Abs(o.Socket)
	if err != nil {
		return err
	}
	state, err := filepath.Abs(o.StateDir)
	if err != nil {
		return err
	}
	want, err := Config(socket, state)
	if err != nil {
		return err
	}
	have, err := readConfig(path)
	if err == nil && c.CNIShared {
		shared, err := Share(want, have)
		switch {
		case err == nil:
			want = shared
		case !errors.Is(err, ErrDamaged):
			return fmt.Errorf("%s %w", path, err)
		default: // nobody could use it
			o.Log.Warn("the network configuration is written anew", "error", replace.Aside(path, err))
		}
	}
	if err == nil && bytes.Equal(have, want) {
		return nil
	}
	return replace.File(path, want, 0o644)
}

// readConfig reads a network configuration, of one that is too large a bit more than may be.
func readConfig(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, MaxConfig+1))
}

// withdraw removes our configuration. One of our name in which somebody wrote us
// behind another plugin is not ours.
func withdraw(path string) error {
	content, err := os.ReadFile(path)
	if err == nil && PlaceIn(content) == First {
		err = os.Remove(path)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// install makes the file at path the program that is running.
func (o *Offering) install(path string) error {
	if there, err := os.Stat(path); err == nil && o.installed != nil && os.SameFile(there, o.installed) && there.ModTime().Equal(o.installed.ModTime()) {
		return nil
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		return err
	}
	if have, err := os.ReadFile(path); err != nil || !bytes.Equal(have, self) {
		if err := replace.File(path, self, 0o755); err != nil {
			return err
		}
	}
	o.installed, err = os.Stat(path)
	return err
}
