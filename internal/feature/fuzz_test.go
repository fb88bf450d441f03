package feature_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"fairlead.dev/fairlead/api/v1alpha1"
	"fairlead.dev/fairlead/internal/feature/all"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/source/manifest"
	"fairlead.dev/fairlead/internal/world"
)

const someNode = "apiVersion: v1\nkind: Node\nmetadata: {name: %s}\nspec: {podCIDRs: [%q]}\nstatus: {addresses: [{type: InternalIP, address: %q}]}\n---\n"

const somePods = `{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: b, labels: {app: a}, annotations: {nodeportlocal.antrea.io: '[{"podPort":80,"nodePort":61007,"protocol":"tcp"}]'}}, spec: {nodeName: n1, containers: [{ports: [{name: x, containerPort: 80, hostPort: 61000}]}]}, status: {podIPs: [{ip: 10.244.1.2}, {ip: "fd00::2"}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: c, namespace: b, labels: {app: a}}, spec: {nodeName: n1}, status: {podIP: 10.244.1.2}}
---
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: b, annotations: {nodeportlocal.antrea.io/enabled: "true"}}, spec: {selector: {app: a}, ipFamilies: [IPv4, IPv6], ports: [{port: 80, targetPort: x}, {port: 9, protocol: UDP}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: t, namespace: b, annotations: {nodeportlocal.antrea.io/enabled: "perhaps"}}, spec: {type: NodePort, ports: [{port: 0}]}}
`

// Whatever people write, the same is rendered of it each time and in any order,
// and no mistake of theirs takes anything from a node that is in order.
func FuzzRender(f *testing.F) {
	for _, s := range []string{
		fmt.Sprintf(someNode, "n2", "10.244.2.0/24", "192.168.100.2"),
		fmt.Sprintf(someNode, "n2", "10.244.1.128/25", "192.168.100.1") + fmt.Sprintf(someNode, "n3", "0.0.0.0/0", "::"),
		fmt.Sprintf(someNode, "n2", "fd00::/8", "fd00::1") + fmt.Sprintf(someNode, "n3", "::ffff:10.0.0.0/104", "::ffff:10.0.0.1"),
		"apiVersion: fairlead.dev/v1alpha1\nkind: AgentConfig\nmetadata: {name: default}\nspec: {nodeSNATRandomizePorts: true, nodeSNATPortRange: 1-65535, nonMasqueradeCIDRs: [0.0.0.0/0, ::/0, x], features: {pod: false}}\n",
		"apiVersion: fairlead.dev/v1alpha1\nkind: AgentConfig\nmetadata: {name: n1}\nspec: {overlay: {mode: none}, nodeSNATPortBlock: 9000}\n",
		fmt.Sprintf(someNode, "n2", "10.244.2.0/24", "192.168.100.2") + "apiVersion: fairlead.dev/v1alpha1\nkind: AgentConfig\nmetadata: {name: default}\nspec: {overlay: {mode: hybrid, interface: 192.168.100.0/24}, disableTXChecksumOffload: true}\n",
		fmt.Sprintf(someNode, "n2", "fe80::/64", "192.168.100.1") + "apiVersion: fairlead.dev/v1alpha1\nkind: FairleadNode\nmetadata: {name: n2}\nstatus: {overlayAddresses: [x, \"::1\", 10.9.0.2]}\n",
		"apiVersion: fairlead.dev/v1alpha1\nkind: AgentConfig\nmetadata: {name: n1}\nspec: {overlay: {mode: direct, interface: \"e[t\", mtu: 9000}}\n",
		"apiVersion: fairlead.dev/v1alpha1\nkind: AgentConfig\nmetadata: {name: n1}\nspec: {overlay: {vni: -1, port: 99999, mtu: 1}, nodePortLocal: {portRange: 1-65535}}\n",
		somePods,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		in := newHistory(1, []string{"/run/netns/a"}).in
		in.Objects = objects(file, in.Objects.Nodes[0])
		w, r := newLine().run(in)
		_, again := newLine().run(in)
		if d := cmp.Diff(said(r), said(again)); d != "" {
			t.Errorf("the same objects, rendered twice:\n%s", d)
		}
		backwards := *in.Objects
		backwards.Nodes, backwards.Configs = slices.Clone(backwards.Nodes), slices.Clone(backwards.Configs)
		backwards.Reports = slices.Clone(backwards.Reports)
		slices.Reverse(backwards.Nodes)
		slices.Reverse(backwards.Configs)
		slices.Reverse(backwards.Reports)
		in.Objects = &backwards
		_, again = newLine().run(in)
		if d := cmp.Diff(said(r), said(again)); d != "" {
			t.Errorf("the same objects, in another order:\n%s", d)
		}
		enabled := 0
		for _, one := range all.Features {
			if one.On(w.Config) {
				enabled++
			}
		}
		if len(r.State) != enabled {
			t.Errorf("%d parts of %d features", len(r.State), enabled)
		}
		if w.Config.Enabled("snat") && r.State.NFT() == "" || w.Config.HasOverlay() && len(r.State.IP()) == 0 {
			t.Errorf("a node in order holds nothing, with problems %v", r.Problems)
		}
		for _, p := range r.Problems {
			if p.Object == "" || p.Reason == "" {
				t.Errorf("%#v says nothing", p)
			}
		}
	})
}

// objects are those in file, beside one Node that is in order. As in a source,
// names are unique.
func objects(file []byte, good *corev1.Node) *source.Objects {
	docs, problems := manifest.Parse("f.yaml", file)
	out := &source.Objects{Nodes: []*corev1.Node{good}, Problems: problems}
	names := map[string]bool{"Node " + good.Name: true}
	for _, d := range docs {
		if d.Name == "" || names[d.Object()] {
			continue
		}
		names[d.Object()] = true
		switch d.Kind {
		case "Node":
			n := &corev1.Node{}
			out.Problems = append(out.Problems, d.Decode(n)...)
			out.Nodes = append(out.Nodes, n)
		case "AgentConfig":
			c := &v1alpha1.AgentConfig{}
			out.Problems = append(out.Problems, d.Decode(c)...)
			out.Configs = append(out.Configs, c)
		case "FairleadNode":
			r := &v1alpha1.FairleadNode{}
			out.Problems = append(out.Problems, d.Decode(r)...)
			out.Reports = append(out.Reports, r)
		case "Pod":
			o := &corev1.Pod{}
			out.Problems = append(out.Problems, d.Decode(o)...)
			p, mistakes := source.Door{Node: good.Name}.Pod(o)
			if out.Problems = append(out.Problems, mistakes...); p != nil {
				out.Pods = out.Pods.With(nil, []*world.Pod{p}, world.ComparePods)
			}
		case "Service":
			o := &corev1.Service{}
			out.Problems = append(out.Problems, d.Decode(o)...)
			service, mistakes := source.Door{Node: good.Name}.Service(o)
			out.Problems = append(out.Problems, mistakes...)
			out.Services = replace(out.Services, service.Key, service, func(s *world.Service) world.Key { return s.Key })
		}
	}
	return out
}
