package cni_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/world"
)

func TestTheNetworkIsShownToTheRuntime(t *testing.T) {
	dir := t.TempDir()
	confs, bins := filepath.Join(dir, "net.d"), filepath.Join(dir, "bin")
	o := cni.Offering{ConfDir: confs, BinDir: bins, Socket: filepath.Join(dir, "agent.sock"), StateDir: filepath.Join(dir, "state"),
		Log: slog.New(slog.DiscardHandler)}
	conf, bin := filepath.Join(confs, cni.ConfigFile), filepath.Join(bins, cni.PluginFile)
	change := func(mode world.OverlayMode) (time.Time, time.Time) {
		t.Helper()
		if err := o.Make(&world.Config{Overlay: world.Overlay{Mode: mode}}); err != nil {
			t.Fatal(err)
		}
		var out [2]time.Time
		for i, path := range []string{conf, bin} {
			if info, err := os.Stat(path); err == nil {
				out[i] = info.ModTime()
			}
		}
		return out[0], out[1]
	}
	confAt, binAt := change(world.VXLAN)
	if confAt.IsZero() || binAt.IsZero() {
		t.Fatalf("configuration of %s, plugin of %s", confAt, binAt)
	}
	if c, b := change(world.Direct); c != confAt || b != binAt {
		t.Error("what is right was written again")
	}
	if err := os.WriteFile(conf, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(bin); err != nil {
		t.Fatal(err)
	}
	if c, b := change(world.VXLAN); c.Equal(confAt) || b.IsZero() {
		t.Error("what was taken away stays away")
	}
	self, err := os.ReadFile("/proc/self/exe")
	there, err2 := os.ReadFile(bin)
	if err != nil || err2 != nil || string(self) != string(there) {
		t.Errorf("the plugin is another program (%v, %v)", err, err2)
	}
	if c, _ := change(world.None); !c.IsZero() {
		t.Error("the pod network is another's, and the runtime is shown ours")
	}
	if left, err := os.ReadDir(confs); err != nil || len(left) != 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}
