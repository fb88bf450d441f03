package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/replace"
	"fairlead.dev/fairlead/internal/world"
)

// An offering shows the pod network to the container runtime: the plugin's binary,
// and a network configuration. Both stay when the agent ends.
type offering struct {
	config    Config
	installed os.FileInfo // the binary in its place, as it was left
}

// offer makes the offering from the first time that pods can be attached on, until ctx
// is done, and repairs it. Where another CNI makes the pods' network there is no
// configuration of ours.
func (a *Agent) offer(ctx context.Context) error {
	o := offering{config: a.config}
	var last string
	for {
		s := a.snapshot.Load()
		if s.Ready && s.unready() == nil {
			said := ""
			if err := o.make(s.World.Config); err != nil {
				said = quote.Errors(err)
			}
			if said != "" && said != last {
				a.config.Log.Error("the container runtime is not shown the pod network; trying again", "error", said)
			}
			if said != last {
				a.unoffered.Store(&said)
				a.loop.Wake()
			}
			last = said
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.next:
		}
	}
}

func (o *offering) make(c *world.Config) error {
	// The configuration comes second: a runtime that sees it calls the plugin.
	if dir := o.config.CNIBinDir; dir != "" {
		if err := o.install(filepath.Join(dir, cni.PluginFile)); err != nil {
			return fmt.Errorf("install the plugin: %w", err)
		}
	}
	if dir := o.config.CNIConfDir; dir != "" {
		if err := o.configure(filepath.Join(dir, cni.ConfigFile), c); err != nil {
			return fmt.Errorf("write the network configuration: %w", err)
		}
	}
	return nil
}

func (o *offering) configure(path string, c *world.Config) error {
	if c.Overlay.Mode == world.None {
		return withdraw(path)
	}
	socket, err := filepath.Abs(o.config.Socket)
	if err != nil {
		return err
	}
	state, err := filepath.Abs(o.config.StateDir)
	if err != nil {
		return err
	}
	want, err := cni.Config(socket, state)
	if err != nil {
		return err
	}
	have, err := readConfig(path)
	if err == nil && c.CNIShared {
		shared, err := cni.Share(want, have)
		switch {
		case err == nil:
			want = shared
		case !errors.Is(err, cni.ErrDamaged):
			return fmt.Errorf("%s %w", path, err)
		default: // nobody could use it
			o.config.Log.Warn("the network configuration is written anew", "error", replace.Aside(path, err))
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
	return io.ReadAll(io.LimitReader(f, cni.MaxConfig+1))
}

// ofRuntime is what keeps the container runtime from being shown the pod network, as a
// Problem.
func (a *Agent) ofRuntime() []world.Problem {
	said := a.unoffered.Load()
	if said == nil || *said == "" {
		return nil
	}
	return []world.Problem{{Object: "Node " + a.config.Node, Field: "container runtime", Reason: "is not shown the pod network: " + *said,
		Hint: "pods that begin may get no network, or another: correct or remove the file, and the agent writes it again within seconds"}}
}

// withdraw removes our configuration. One of our name in which somebody wrote us
// behind another plugin is not ours.
func withdraw(path string) error {
	content, err := os.ReadFile(path)
	if err == nil && cni.PlaceIn(content) == cni.First {
		err = os.Remove(path)
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// install makes the file at path the program that is running.
func (o *offering) install(path string) error {
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
