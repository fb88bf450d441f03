package cni

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/containernetworking/cni/pkg/types"

	"fairlead.dev/fairlead/internal/quote"
)

// What others append to our network configuration is bounded.
const (
	MaxConfig   = 256 << 10 // bytes of the whole file
	maxAppended = 32        // plugins
)

// ErrDamaged is why a network configuration cannot be shared that no runtime could
// read either.
var ErrDamaged = errors.New("is no network configuration")

// Share returns ours with the plugins that others appended to it in have, in their
// order. Where have says that already, however it is written, it is returned as it is.
// One that somebody made another network of is an error, as what cannot be read.
//
// Who appends (istio-cni, linkerd-cni) takes the first configuration by name, adds an
// entry at the end of its plugins, and does so again when it is missing.
func Share(ours, have []byte) ([]byte, error) {
	if len(have) > MaxConfig {
		return nil, fmt.Errorf("is larger than %d KiB", MaxConfig>>10)
	}
	list, err := readList(ours)
	if err != nil {
		return nil, err
	}
	theirs, err := readList(have)
	if err != nil {
		return nil, err
	}
	appended, err := theirs.appended()
	if err != nil {
		return nil, err
	}
	list.Plugins = append(list.Plugins, appended...)
	out, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return nil, err
	}
	if same(out, have) {
		return have, nil
	}
	return append(out, '\n'), nil
}

// A list is a network configuration, as far as we have it; plugins of others are as
// they wrote them.
type list struct {
	Version  string            `json:"cniVersion"`
	Versions []string          `json:"cniVersions"`
	Name     string            `json:"name"`
	Plugins  []json.RawMessage `json:"plugins"`
	types    []string
}

// readList reads a network configuration as runtimes do, which tell upper case from
// lower in the names of its fields. What is not ours to say counts as not said.
func readList(content []byte) (list, error) {
	var l list
	var fields map[string]json.RawMessage
	var whole map[string]any // which takes no number that is too large
	if err := errors.Join(json.Unmarshal(content, &whole), json.Unmarshal(content, &fields)); err != nil {
		return l, fmt.Errorf("%w: %s", ErrDamaged, quote.Errors(err))
	}
	for name, into := range map[string]any{"cniVersion": &l.Version, "cniVersions": &l.Versions, "name": &l.Name} {
		_ = json.Unmarshal(fields[name], into)
	}
	if err := json.Unmarshal(fields["plugins"], &l.Plugins); err != nil || len(l.Plugins) == 0 {
		return l, fmt.Errorf("%w: it has no list of plugins", ErrDamaged)
	}
	for i, raw := range l.Plugins {
		var p *types.PluginConf
		if err := json.Unmarshal(raw, &p); err != nil || p == nil || p.Type == "" {
			return l, fmt.Errorf("%w: plugin %d of it is none, or has no type", ErrDamaged, i+1)
		}
		l.types = append(l.types, p.Type)
	}
	return l, nil
}

// appended are the plugins that stand behind ours. Where ours was taken out, all that
// are left are.
func (l list) appended() (out []json.RawMessage, err error) {
	at := -1
	for i, typ := range l.types {
		switch {
		case typ != PluginFile:
			out = append(out, l.Plugins[i])
		case at < 0:
			at = i
		}
	}
	switch {
	case at > 0:
		return nil, fmt.Errorf("calls the plugin %s before %s, which makes the pods' network itself", quote.Of(l.types[0]), PluginFile)
	case at < 0 && l.Name != NetworkName:
		return nil, fmt.Errorf("is the network %s, and does not call %s", quote.Of(l.Name), PluginFile)
	case len(out) > maxAppended:
		return nil, fmt.Errorf("calls %d plugins of others; %d may be appended", len(out), maxAppended)
	}
	return out, nil
}

// same reports whether two configurations say the same.
func same(a, b []byte) bool {
	var read [2]any
	for i, content := range [][]byte{a, b} {
		d := json.NewDecoder(bytes.NewReader(content))
		d.UseNumber()
		if d.Decode(&read[i]) != nil {
			return false
		}
	}
	return reflect.DeepEqual(read[0], read[1])
}
