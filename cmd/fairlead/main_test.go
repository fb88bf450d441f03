package main

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"fairlead.dev/fairlead/internal/dump"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/feature/all"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/source/dir"
	"fairlead.dev/fairlead/internal/world"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"fairlead": main})
}

// Every command behaves at the prompt as its script says: testdata/NAME.txtar.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(e *testscript.Env) error {
			e.Setenv("FAIRLEAD_SOCKET", e.WorkDir+"/agent.sock")
			e.Setenv("FAIRLEAD_LAB_DIR", e.WorkDir+"/lab")
			return writeDumps(e.WorkDir)
		},
	})
}

const manifests = `
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.244.1.0/24]}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
---
apiVersion: v1
kind: Node
metadata: {name: n2}
spec: {podCIDRs: [10.244.2.0/24]}
status: {addresses: [{type: InternalIP, address: 192.0.2.2}]}
---
apiVersion: fairlead.dev/v1alpha1
kind: AgentConfig
metadata: {name: default}
spec: {nodeSNATPortRange: 60999-32768}
`

// writeDumps writes what agents would: of a node, of one whose rules were made by another
// version, of one that lacks what is configured, and of an agent that knows no node.
func writeDumps(to string) error {
	path := filepath.Join(to, "manifests.yaml")
	if err := os.WriteFile(path, []byte(manifests), 0o600); err != nil {
		return err
	}
	objects, err := dir.New(path).Read()
	if err != nil {
		return err
	}
	build := func(node string, change func(*world.Kernel)) dump.Dump {
		k := source.PlainKernel(&world.Node{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}})
		change(k)
		pod := &world.Attachment{Namespace: "default", Pod: "web-0", ContainerID: "c1", Interface: "eth0", Addresses: []netip.Addr{netip.MustParseAddr("10.244.1.2")}}
		w, problems := source.NewBuilder(node, feature.Switches(all.Features)...).Build(source.Inputs{Objects: objects, Kernel: k,
			Attachments: &world.Attachments{List: []*world.Attachment{pod}}})
		d := dump.Dump{By: "v0.1.0", At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), World: w, Problems: problems}
		if w.Node != nil {
			d.State = feature.NewRenderer(all.Features).Render(w).State
		}
		return d
	}
	none := func(*world.Kernel) {}
	other := build("n1", none)
	other.State = other.State[1:]
	for name, d := range map[string]dump.Dump{
		"node.json": build("n1", none), "other.json": other, "nowhere.json": build("n9", none), "state.json": {State: other.State},
		"lacking.json": build("n1", func(k *world.Kernel) {
			k.Capabilities.FullyRandomPorts = world.Capability{Reason: "the rule is refused"}
		}),
	} {
		var text bytes.Buffer
		if err := dump.Write(&text, d); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, name), text.Bytes(), 0o600); err != nil {
			return err
		}
	}
	return nil
}
