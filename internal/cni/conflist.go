package cni

import (
	"encoding/json"
	"slices"
)

// ConfigFile is the name of our network configuration among others: a runtime
// takes the first.
const ConfigFile = "10-fairlead.conflist"

// PluginFile is the name of the plugin's binary, which configurations call it by.
const PluginFile = "fairlead"

// NetworkName is what our network configuration calls the network.
const NetworkName = "fairlead"

// Config is the network configuration that leads a runtime to the agent with
// that socket and state directory. The runtime takes the highest version of the
// list that it knows; one that knows no list takes the first.
func Config(socket, stateDir string) ([]byte, error) {
	type plugin struct {
		Type         string          `json:"type"`
		Socket       string          `json:"socket"`
		StateDir     string          `json:"stateDir"`
		Capabilities map[string]bool `json:"capabilities"`
	}
	content, err := json.MarshalIndent(struct {
		Version  string   `json:"cniVersion"`
		Versions []string `json:"cniVersions"`
		Name     string   `json:"name"`
		Plugins  []plugin `json:"plugins"`
	}{
		"1.0.0", []string{"1.0.0", "1.1.0"}, NetworkName,
		[]plugin{{PluginFile, socket, stateDir, map[string]bool{"portMappings": true, "bandwidth": true}}},
	}, "", "  ")
	return append(content, '\n'), err
}

// A Place is where a network configuration calls the plugin.
type Place string

// The places: at the head of the list the pods' network is ours, behind another
// plugin it is that one's.
const (
	Nowhere Place = "nowhere"
	First   Place = "first"
	Behind  Place = "behind"
)

// PlaceIn returns where a runtime's network configuration, a list or a single
// plugin, calls ours. What cannot be read calls nobody.
func PlaceIn(content []byte) Place {
	type plugin struct {
		Type string `json:"type"`
	}
	var conf struct {
		plugin
		Plugins []plugin `json:"plugins"`
	}
	if err := json.Unmarshal(content, &conf); err != nil {
		return Nowhere
	}
	plugins := conf.Plugins
	if len(plugins) == 0 {
		plugins = []plugin{conf.plugin}
	}
	switch slices.Index(plugins, plugin{PluginFile}) {
	case -1:
		return Nowhere
	case 0:
		return First
	default:
		return Behind
	}
}
