package crd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"k8s.io/apimachinery/pkg/util/json" // numbers as an API server reads them
	"sigs.k8s.io/yaml"

	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/feature/all"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/source/dir"
	"fairlead.dev/fairlead/internal/world"
)

const node = `apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.244.1.0/24]}
status: {addresses: [{type: InternalIP, address: 192.168.100.1}]}
---
`

func config(spec string) string {
	return "apiVersion: fairlead.dev/v1alpha1\nkind: AgentConfig\nmetadata: {name: default}\nspec: {" + spec + "}\n"
}

// problems is what an agent says of the manifest.
func problems(t testing.TB, manifest string) []world.Problem {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(node+manifest), 0o644); err != nil {
		t.Fatal(err)
	}
	objects, err := dir.New(file).Read()
	if err != nil {
		t.Fatal(err)
	}
	_, found := source.NewBuilder("n1", feature.Switches(all.Features)...).Build(source.Inputs{Objects: objects, Attachments: &world.Attachments{}, Kernel: &world.Kernel{}})
	return found
}

func read(t testing.TB, manifest string) map[string]any {
	t.Helper()
	asJSON, err := yaml.YAMLToJSON([]byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	var object map[string]any
	if err := json.Unmarshal(asJSON, &object); err != nil {
		t.Fatal(err)
	}
	return object
}

// bad are specs that are refused, each with the field that is at fault.
var bad = []struct{ field, spec string }{
	{"overlay.mode", `overlay: {mode: vxlam}`},
	{"overlay.mode", `overlay: {mode: ""}`},
	{"overlay.mode", `overlay: {mode: 5}`},
	{"overlay.vni", `overlay: {vni: 0}`},
	{"overlay.vni", `overlay: {vni: 16777216}`},
	{"overlay.vni", `overlay: {vni: "1"}`},
	{"overlay.vni", `overlay: {vni: 1.5}`},
	{"overlay.port", `overlay: {port: 0}`},
	{"overlay.port", `overlay: {port: 65536}`},
	{"overlay.port", `overlay: {port: -1}`},
	{"overlay.mtu", `overlay: {mtu: 1}`},
	{"overlay.mtu", `overlay: {mtu: 1279}`},
	{"overlay.mtu", `overlay: {mtu: -1}`},
	{"overlay.mtu", `overlay: {mtu: 65536}`},
	{"overlay.interface", `overlay: {interface: 192.0.2.1}`},
	{"overlay.interface", `overlay: {interface: "fd00::1"}`},
	{"overlay.interface", `overlay: {interface: "fe80::1%eth0"}`},
	{"overlay.interface", `overlay: {interface: "::ffff:192.0.2.1"}`},
	{"overlay.interface", `overlay: {interface: 192.0.2.1/24}`},
	{"overlay.interface", `overlay: {interface: 192.0.2.0/33}`},
	{"overlay.interface", `overlay: {interface: "::ffff:192.0.2.0/120"}`},
	{"overlay.interface", `overlay: {interface: eth0/1}`},
	{"overlay.interface", `overlay: {interface: "eth["}`},
	{"overlay.interface", `overlay: {interface: "eth[]"}`},
	{"overlay.interface", `overlay: {interface: "eth[3-]"}`},
	{"overlay.interface", `overlay: {interface: "eth 0"}`},
	{"overlay.interface", `overlay: {interface: "eth[^0]"}`},
	{"overlay.interface", `overlay: {interface: "eth0:1"}`},
	{"overlay.interface", `overlay: {interface: 'eth\'}`},
	{"overlay.interface", `overlay: {interface: ` + strings.Repeat("e", 65) + `}`},
	{"overlay.encryption", `overlay: {encryption: wireguard}`},
	{"overlay.tunnel", `overlay: {tunnel: vxlan}`},
	{"overlay", `overlay: vxlan`},
	{"nodeSNATRandomizePorts", `nodeSNATRandomizePorts: "yes"`},
	{"nodeSNATRandomisePorts", `nodeSNATRandomisePorts: true`},
	{"nodeSNATPortRange", `nodeSNATPortRange: 60999-32768`},
	{"nodeSNATPortRange", `nodeSNATPortRange: "32768"`},
	{"nodeSNATPortRange", `nodeSNATPortRange: ""`},
	{"nodeSNATPortRange", `nodeSNATPortRange: 0-1024`},
	{"nodeSNATPortRange", `nodeSNATPortRange: 32768-65536`},
	{"nodeSNATPortRange", `nodeSNATPortRange: 32768-99999`},
	{"nodeSNATPortRange", `nodeSNATPortRange: 000001-2`},
	{"nodeSNATPortRange", `nodeSNATPortRange: 32768 - 60999`},
	{"nodeSNATPortRange", `nodeSNATPortRange: 32768:60999`},
	{"nodeSNATPortRange", `nodeSNATPortRange: Auto`},
	{"nodeSNATPortRange", `nodeSNATPortRange: 32768`},
	{"nodeSNATPortBlock", `nodeSNATPortBlock: -1`},
	{"nodeSNATPortBlock", `nodeSNATPortBlock: 32769`},
	{"nodeSNATPortBlock", `nodeSNATPortBlock: 1025, nodeSNATPortRange: 40000-41023`},
	{"nonMasqueradeCIDRs", `nonMasqueradeCIDRs: 10.0.0.0/8`},
	{"nonMasqueradeCIDRs[1]", `nonMasqueradeCIDRs: [10.0.0.0/8, 10.0.0.1]`},
	{"nonMasqueradeCIDRs[0]", `nonMasqueradeCIDRs: [10.0.0.1/8]`},
	{"nonMasqueradeCIDRs[0]", `nonMasqueradeCIDRs: ["::ffff:10.0.0.0/104"]`},
	{"nonMasqueradeCIDRs[0]", `nonMasqueradeCIDRs: ["fe80::%eth0/64"]`},
	{"nonMasqueradeCIDRs[0]", `nonMasqueradeCIDRs: [""]`},
	{"nonMasqueradeCIDRs", `nonMasqueradeCIDRs: [` + cidrs(1025) + `]`},
	{"clusterCIDRs", `clusterCIDRs: 10.0.0.0/8`},
	{"clusterCIDRs[1]", `clusterCIDRs: [10.0.0.0/8, 10.0.0.1]`},
	{"clusterCIDRs[0]", `clusterCIDRs: [10.0.0.1/8]`},
	{"clusterCIDRs", `clusterCIDRs: [` + cidrs(1025) + `]`},
	{"nodePortLocal.portRange", `nodePortLocal: {portRange: auto}`},
	{"nodePortLocal.portRange", `nodePortLocal: {portRange: 62000-61000}`},
	{"nodePortLocal.enabled", `nodePortLocal: {enabled: 1}`},
	{"nodePortLocal.maxPerPod", `nodePortLocal: {maxPerPod: 0}`},
	{"nodePortLocal.maxPerPod", `nodePortLocal: {maxPerPod: 2001}`},
	{"nodePortLocal.maxPerNamespace", `nodePortLocal: {maxPerNamespace: 0}`},
	{"nodePortLocal.maxPerNamespace", `nodePortLocal: {maxPerNamespace: 393211}`},
	{"egressSNATRandomizePorts", `egressSNATRandomizePorts: "no"`},
	{"egressSNATPortRange", `egressSNATPortRange: 60999-32768`},
	{"egressSNATPortRange", `egressSNATPortRange: 0-1024`},
	{"egressSNATPortRange", `egressSNATPortRange: Kernel`},
	{"policy.onNewDenial", `policy: {onNewDenial: cut}`},
	{"features", `features: {snta: false}`},
	{"features", `features: {snat: "off"}`},
	{"features", `features: {pod: true}, overlay: {mode: none}`},
}

// good are specs that nobody has anything to say about.
var good = []string{
	``,
	`overlay: {}`,
	`overlay: {mode: vxlan, encryption: none, vni: 1, port: 4789, mtu: 0, interface: ""}`,
	`overlay: {mode: none, vni: 7, mtu: 1400}, features: {snat: true, pod: false}`,
	`overlay: {mode: direct, vni: 16777215, port: 65535, mtu: 65535}`,
	`overlay: {mode: hybrid, mtu: 1280, interface: "eth*"}`,
	`overlay: {interface: "eth[0-3]?"}`, `overlay: {interface: "en[ops]*"}`, `overlay: {interface: "a]b"}`,
	`overlay: {interface: bond0.100}`, `overlay: {interface: "fd00::/64"}`, `overlay: {interface: 192.0.2.0/24}`,
	`nodeSNATRandomizePorts: true, nodeSNATPortRange: auto`,
	`nodeSNATRandomizePorts: true, nodeSNATPortRange: kernel, nodeSNATPortBlock: 32768`,
	`nodeSNATPortRange: 32768-65535, nodeSNATPortBlock: 32768`,
	`nodeSNATPortRange: 40000-41023, nodeSNATPortBlock: 1024`,
	`nodeSNATPortRange: 1-65535`, `nodeSNATPortRange: 80-80`, `nodeSNATPortRange: 00001-00002`,
	`nodeSNATPortBlock: 0`,
	`nonMasqueradeCIDRs: []`,
	`nonMasqueradeCIDRs: [0.0.0.0/0, "::/0", 10.0.0.0/8, 10.0.0.0/8, "64:ff9b::192.0.2.0/120"]`,
	`nonMasqueradeCIDRs: [` + cidrs(1024) + `]`,
	`clusterCIDRs: []`,
	`clusterCIDRs: [10.244.0.0/16, "fd00:10:244::/48", 192.168.100.0/24]`,
	`nodePortLocal: {enabled: false, portRange: 61000-62000}`, `nodePortLocal: {maxPerPod: 1, maxPerNamespace: 1}`, `nodePortLocal: {maxPerPod: 2000, maxPerNamespace: 393210}`,
	`egressSNATRandomizePorts: true, egressSNATPortRange: kernel`, `egressSNATPortRange: 1024-65535`,
	`egressSNATRandomizePorts: false, egressSNATPortRange: auto, policy: {onNewDenial: keep}`,
	`egressSNATRandomizePorts: null, overlay: null, nodeSNATPortRange: null, nonMasqueradeCIDRs: null, features: null`,
	`features: {hostport: true, overlay: true, pod: true, snat: true}, disableTXChecksumOffload: true`,
}

func cidrs(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`"2001:db8:%x::/48"`, i)
	}
	return strings.Join(list, ", ")
}

// What the schema refuses, the agent refuses too, and both name the field: one
// because it comes first, the other because not every cluster's schema is of the
// agent's version, and a directory has none.
func TestSchemaAndAgentRefuseTheSame(t *testing.T) {
	s := newSchema(t, "fairlead.dev_agentconfigs.yaml")
	for _, c := range bad {
		t.Run(c.spec[:min(60, len(c.spec))], func(t *testing.T) {
			refused := s.refuses(t, read(t, config(c.spec)))
			if len(refused) == 0 || !strings.Contains(refused[0], "spec."+c.field) {
				t.Errorf("the schema says %q, which does not name spec.%s", refused, c.field)
			}
			found := problems(t, config(c.spec))
			if len(found) == 0 || !strings.HasPrefix(found[0].Field, "spec."+c.field) || found[0].Hint == "" {
				t.Errorf("the agent says %v, which does not name spec.%s and a way out", found, c.field)
			}
		})
	}
	for _, spec := range good {
		t.Run(spec[:min(60, len(spec))], func(t *testing.T) {
			if refused := s.refuses(t, read(t, config(spec))); len(refused) > 0 {
				t.Errorf("the schema says %q", refused)
			}
			if found := problems(t, config(spec)); len(found) > 0 {
				t.Errorf("the agent says %v", found)
			}
		})
	}
}

// FuzzSchemaAndAgent writes what comes to mind into every field that is text,
// and into those that are numbers.
func FuzzSchemaAndAgent(f *testing.F) {
	for _, s := range []string{"", "auto", "none", "1-2", "2-1", "99999-1", "eth0", "e[0-9]*", "[-]", "[a-", "[[]", "]", "e\\n", "10.0.0.0/8", "10.0.0.1/8", "::/0", "1.2.3.4", "é/1"} {
		f.Add(s, 0)
		f.Add(s, 1279)
	}
	s := newSchema(f, "fairlead.dev_agentconfigs.yaml")
	f.Fuzz(func(t *testing.T, text string, number int) {
		if strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return // not all of it can be written in YAML
		}
		quoted, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range []string{
			"overlay: {mode: %s, mtu: %d}", "overlay: {interface: %s, vni: %d}", "overlay: {encryption: %s, port: %d}",
			"nodeSNATPortRange: %s, nodeSNATPortBlock: %d", "nodePortLocal: {portRange: %s}, overlay: {vni: %d}",
			"nonMasqueradeCIDRs: [%s], overlay: {port: %d}", "clusterCIDRs: [%s], overlay: {port: %d}", "features: {%s: true}, nodeSNATPortBlock: %d", "egressSNATPortRange: %s, overlay: {mtu: %d}",
		} {
			c := config(fmt.Sprintf(spec, quoted, number))
			refused, found := s.refuses(t, read(t, c)), problems(t, c)
			if (len(refused) > 0) != (len(found) > 0) {
				t.Errorf("%sthe schema says %q, the agent %v", c, refused, found)
			}
		}
	})
}
