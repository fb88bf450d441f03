package cni_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/netnstest"
	"fairlead.dev/fairlead/internal/replace"
)

// mesh is a plugin that writes down what it is asked, one file for each command, and
// answers with what the plugins before it answered.
const mesh = `#!/bin/sh
cat >"$0.$CNI_COMMAND"
case $CNI_COMMAND in
ADD) sed 's/.*"prevResult":\({.*}\),"type".*/\1/' "$0.ADD";;
VERSION) echo '{"cniVersion":"1.1.0","supportedVersions":["0.4.0","1.0.0","1.1.0"]}';;
esac
`

const shared = `{apiVersion: fairlead.dev/v1alpha1, kind: AgentConfig, metadata: {name: n1}, spec: {cni: {exclusive: %v}}}`

// appendMesh writes the mesh's entry into the agent's file, as meshes do.
func (m *machine) appendMesh() {
	m.t.Helper()
	path := filepath.Join(m.confs, cni.ConfigFile)
	m.within(func() error {
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var conf map[string]any
		if err := json.Unmarshal(content, &conf); err != nil {
			return err
		}
		conf["plugins"] = append(conf["plugins"].([]any), map[string]any{"type": "mesh", "name": "mesh", "exclude": []string{"kube-system"}})
		if content, err = json.Marshal(conf); err != nil {
			return err
		}
		return replace.File(path, content, 0o600)
	})
}

// called waits until the agent's file calls the plugins.
func (m *machine) called(want ...string) *libcni.NetworkConfigList {
	m.t.Helper()
	var list *libcni.NetworkConfigList
	m.within(func() error {
		list = m.network("1.1.0")
		var types []string
		for _, p := range list.Plugins {
			types = append(types, p.Network.Type)
		}
		if !slices.Equal(types, want) {
			return fmt.Errorf("called are %v, want %v", types, want)
		}
		return nil
	})
	return list
}

// asked is what the mesh was asked last with a command.
func (m *machine) asked(command string) string {
	m.t.Helper()
	content, err := os.ReadFile(filepath.Join(m.bin, "mesh."+command))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		m.t.Fatal(err)
	}
	return string(content)
}

// A mesh's plugin that is appended stays, over changes of our entry and restarts, and is
// asked after ours what ours is asked, with our answer.
func TestAMeshIsChainedBehindUs(t *testing.T) {
	m := newMachine(t, "vxlan")
	m.write("objects/shared.yaml", fmt.Sprintf(shared, false), 0o644)
	m.write("bin/mesh", mesh, 0o755)
	m.network("1.1.0")
	m.appendMesh()
	path := filepath.Join(m.confs, cni.ConfigFile)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m.write("net.d/"+cni.ConfigFile, strings.Replace(string(content), m.socket(), "/run/elsewhere.sock", 1), 0o600)
	m.within(func() error {
		if now, err := os.ReadFile(path); err != nil || !strings.Contains(string(now), m.socket()) || !strings.Contains(string(now), "kube-system") {
			return fmt.Errorf("our entry is not put right: %w\n%s", err, now)
		}
		return nil
	})
	m.stop()
	m.start()
	list := m.called("fairlead", "mesh")
	m.within(func() error { return m.runtime.GetStatusNetworkList(t.Context(), list) })

	pod := netnstest.New(t)
	rt := sandbox("meshed", pod)
	answer, err := m.runtime.AddNetworkList(t.Context(), list, rt)
	if err != nil {
		t.Fatal(err)
	}
	for _, said := range []string{m.asked("ADD"), fmt.Sprint(answer)} {
		if !strings.Contains(said, "10.244.1.2") || !strings.Contains(said, "fd00:10:244:1::2") {
			t.Errorf("the addresses are not in %s", said)
		}
	}
	if err := m.runtime.CheckNetworkList(t.Context(), list, rt); err != nil || !strings.Contains(m.asked("CHECK"), "10.244.1.2") {
		t.Errorf("check: %v; the mesh was asked %s", err, m.asked("CHECK"))
	}
	if err := m.runtime.GCNetworkList(t.Context(), list, &libcni.GCArgs{ValidAttachments: []types.GCAttachment{{ContainerID: "meshed", IfName: "eth0"}}}); err != nil || m.pods() != "meshed" {
		t.Errorf("gc: %v, left are %q", err, m.pods())
	}
	if err := m.runtime.DelNetworkList(t.Context(), list, rt); err != nil || m.asked("DEL") == "" || m.pods() != "" {
		t.Errorf("del: %v; the mesh was asked %q, left are %q", err, m.asked("DEL"), m.pods())
	}

	m.write("objects/shared.yaml", fmt.Sprintf(shared, true), 0o644)
	m.called("fairlead")
}

// What is no runtime's to read is set aside, and what somebody made another network of
// stays and is told.
func TestAFileOfOthersIsNotLost(t *testing.T) {
	m := newMachine(t, "vxlan")
	m.write("objects/shared.yaml", fmt.Sprintf(shared, false), 0o644)
	path := filepath.Join(m.confs, cni.ConfigFile)
	m.network("1.1.0")
	m.appendMesh()
	m.called("fairlead", "mesh")
	m.write("net.d/"+cni.ConfigFile, `{"half": `, 0o644)
	m.called("fairlead")
	if content, err := os.ReadFile(path + replace.Damaged); string(content) != `{"half": ` {
		t.Errorf("set aside is %q (%v)", content, err)
	}
	const theirs = `{"cniVersion": "1.0.0", "name": "cbr0", "plugins": [{"type": "flannel"}]}`
	m.write("net.d/"+cni.ConfigFile, theirs, 0o644)
	m.within(func() error {
		if p := m.problems(); !strings.Contains(p, `is the network \"cbr0\", and does not call fairlead`) {
			return fmt.Errorf("problems are %s", p)
		}
		return nil
	})
	if content, err := os.ReadFile(path); string(content) != theirs {
		t.Errorf("the file becomes %s (%v)", content, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	m.called("fairlead")
	m.within(func() error {
		if p := m.problems(); strings.Contains(p, "container runtime") {
			return fmt.Errorf("problems are %s", p)
		}
		return nil
	})
}
