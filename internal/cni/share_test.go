package cni

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
)

func ourConfig(t testing.TB) string {
	t.Helper()
	content, err := Config("/run/fairlead/agent.sock", "/var/lib/fairlead")
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// read is what a runtime calls, and its network.
func read(t testing.TB, content []byte) (name string, plugins []string) {
	t.Helper()
	l, err := libcni.NetworkConfFromBytes(content)
	if err != nil {
		t.Fatalf("no runtime reads\n%s: %v", content, err)
	}
	for _, p := range l.Plugins {
		plugins = append(plugins, p.Network.Type)
	}
	return l.Name, plugins
}

const mesh = `{"type": "mesh-cni", "kubernetes": {"kubeconfig": "/etc/cni/net.d/mesh"}, "limit": 12345678901234567890}`

func TestWhatOthersAppendStays(t *testing.T) {
	ours := ourConfig(t)
	appended := strings.Replace(ours, "\n    }\n  ]", "\n    },\n"+mesh+"\n  ]", 1)
	_, mine, _ := strings.Cut(appended, `"plugins": [`)
	mine, _, _ = strings.Cut(mine, mesh)
	mine = strings.TrimRight(strings.TrimSpace(mine), ",")
	for name, tt := range map[string]struct {
		have string
		want []string // nil: it stays as it is
	}{
		"ours alone":                {ours, nil},
		"appended":                  {appended, nil},
		"written otherwise":         {strings.Join(strings.Fields(appended), " "), nil},
		"ours is changed":           {strings.Replace(appended, "agent.sock", "other.sock", 1), []string{"fairlead", "mesh-cni"}},
		"ours lacks something":      {`{"cniVersion": "0.3.1", "name": "fairlead", "plugins": [{"type": "fairlead"}, ` + mesh + `, {"type": "tuning"}]}`, []string{"fairlead", "mesh-cni", "tuning"}},
		"ours is called twice":      {`{"name": "fairlead", "plugins": [` + mine + `, {"type": "tuning"}, ` + mine + `]}`, []string{"fairlead", "tuning"}},
		"ours was taken out":        {`{"name": "fairlead", "plugins": [` + mesh + `]}`, []string{"fairlead", "mesh-cni"}},
		"the network is renamed":    {strings.Replace(appended, `"name": "fairlead"`, `"name": "k8s-pod-network"`, 1), []string{"fairlead", "mesh-cni"}},
		"something of all plugins":  {strings.Replace(appended, `"name"`, `"disableCheck": true, "name"`, 1), []string{"fairlead", "mesh-cni"}},
		"our versions are no words": {strings.Replace(appended, `"1.0.0"`, `1`, 1), []string{"fairlead", "mesh-cni"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Share([]byte(ours), []byte(tt.have))
			if err != nil {
				t.Fatal(err)
			}
			if stays := string(got) == tt.have; stays != (tt.want == nil) {
				t.Errorf("it stays: %v\n%s", stays, got)
			}
			network, plugins := read(t, got)
			if tt.want != nil && !slices.Equal(plugins, tt.want) || network != "fairlead" {
				t.Errorf("called are %v in the network %s", plugins, network)
			}
			if slices.Contains(plugins, "mesh-cni") && !strings.Contains(string(got), "12345678901234567890") {
				t.Errorf("the entry of others is not as they wrote it:\n%s", got)
			}
		})
	}
}

func TestWhatCannotBeSharedIsSaid(t *testing.T) {
	for have, want := range map[string]string{
		``:                              "is no network configuration",
		`{`:                             "is no network configuration",
		`[]`:                            "is no network configuration",
		`{"name": "fairlead"}`:          "it has no list of plugins",
		`{"Plugins": [` + mesh + `]}`:   "it has no list of plugins",
		`{"plugins": []}`:               "it has no list of plugins",
		`{"plugins": [5]}`:              "plugin 1 of it is none",
		`{"plugins": [{}]}`:             "plugin 1 of it is none",
		`{"plugins": [null]}`:           "plugin 1 of it is none",
		`{"plugins": [` + mesh + `]} x`: "is no network configuration",
		`{"name": "cbr0", "plugins": [{"type": "flannel"}]}`:                             `is the network "cbr0", and does not call fairlead`,
		`{"name": "fairlead", "plugins": [{"type": "bridge"}, {"type": "fairlead"}]}`:    `calls the plugin "bridge" before fairlead`,
		`{"name": "fairlead", "plugins": [` + strings.Repeat(mesh+",", 33) + mesh + `]}`: "calls 34 plugins of others; 32 may be appended",
		`{"x": "` + strings.Repeat("x", MaxConfig) + `"}`:                                "is larger than 256 KiB",
	} {
		got, err := Share([]byte(ourConfig(t)), []byte(have))
		if err == nil || !strings.Contains(err.Error(), want) || got != nil {
			t.Errorf("%.80s: %v, want %s", have, err, want)
		}
		if damaged := strings.Contains(want, "no network") || strings.Contains(want, "it "); errors.Is(err, ErrDamaged) != (damaged || strings.Contains(want, "of it")) {
			t.Errorf("%.80s: %v is damage: %v", have, err, errors.Is(err, ErrDamaged))
		}
	}
}

// Whatever somebody wrote, a runtime reads what becomes of it and calls us first, theirs are
// as they were, and the next look changes nothing.
func FuzzShare(f *testing.F) {
	ours := ourConfig(f)
	for _, s := range []string{ours, `{"name": "fairlead", "plugins": [` + mesh + `]}`, `{"plugins": [{"type": "fairlead"}, {"TYPE": "x", "a": "<\u0000"}]}`,
		`{"name": "fairlead", "plugins": [{"type": "x", "capabilities": {"a": true}, "ipam": {"type": "y"}}], "plugins": [{"type": "z", "z": 1e400}]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, have []byte) {
		got, err := Share([]byte(ours), have)
		if err != nil {
			return
		}
		if PlaceIn(got) != First {
			t.Errorf("%q becomes %q, which does not call us first", have, got)
		}
		if again, err := Share([]byte(ours), got); err != nil || string(again) != string(got) {
			t.Errorf("%q becomes %q, and that %q (%v)", have, got, again, err)
		}
		before, after := pluginsOf(t, have), pluginsOf(t, got)
		if network, _ := read(t, got); network != NetworkName {
			t.Errorf("the network is %q", network)
		}
		for _, p := range before {
			if _, plugins := read(t, []byte(`{"name": "x", "plugins": [`+string(p)+`]}`)); plugins[0] != PluginFile &&
				!slices.ContainsFunc(after, func(q json.RawMessage) bool { return same(p, q) }) {
				t.Errorf("%q becomes %q, and lacks %s", have, got, p)
			}
		}
	})
}

func pluginsOf(t *testing.T, content []byte) (out []json.RawMessage) {
	t.Helper()
	var fields map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(content, &fields), json.Unmarshal(fields["plugins"], &out)); err != nil {
		t.Fatal(err)
	}
	return out
}
