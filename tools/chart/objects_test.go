package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
)

// objects renders the chart and reads each object as the kind that it says it is,
// every field of it.
func objects(t *testing.T, values string) []runtime.Object {
	t.Helper()
	rendered, err := render("fairlead-system", set(t, values))
	if err != nil {
		t.Fatal(err)
	}
	kinds := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, apiextensionsv1.AddToScheme} {
		if err := add(kinds); err != nil {
			t.Fatal(err)
		}
	}
	decoder := serializer.NewCodecFactory(kinds, serializer.EnableStrict).UniversalDeserializer()
	var out []runtime.Object
	documents := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(rendered)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		o, _, err := decoder.Decode(document, nil, nil)
		switch {
		case runtime.IsNotRegisteredError(err) && bytes.Contains(document, []byte("\nkind: PodMonitor\n")): // not Kubernetes'
		case err != nil:
			t.Errorf("%v in\n%s", err, document)
		default:
			out = append(out, o)
		}
	}
}

// find returns the objects of that type.
func find[T runtime.Object](t *testing.T, values string) []T {
	t.Helper()
	var out []T
	for _, o := range objects(t, values) {
		if found, ok := o.(T); ok {
			out = append(out, found)
		}
	}
	if out == nil {
		var none T
		t.Fatalf("with %q there is no %T", values, none)
	}
	return out
}

func TestEveryObjectIsOfItsKindFieldByField(t *testing.T) {
	for name, values := range valueSets {
		if n := len(objects(t, values)); n < 8 {
			t.Errorf("%s: %d objects", name, n)
		}
	}
}

// What agents read is an AgentConfig. That its fields are those of the kind is the
// schema's affair.
func TestConfigIsAnAgentConfig(t *testing.T) {
	const values = "config.overlay.mode=none,config.nodeSNATPortRange=32768-65535"
	file := find[*corev1.ConfigMap](t, values)[0].Data["default.yaml"]
	const want = `apiVersion: fairlead.dev/v1alpha1
kind: AgentConfig
metadata:
  name: default
spec:
  nodeSNATPortRange: 32768-65535
  overlay:
    mode: none
`
	if strings.TrimSpace(file) != strings.TrimSpace(want) {
		t.Errorf("config is\n%s", file)
	}
	pod := find[*appsv1.DaemonSet](t, values)[0].Spec.Template
	if !slices.Contains(pod.Spec.Containers[0].Args, "--config=/etc/fairlead/config/default.yaml") || pod.Annotations["checksum/config"] == "" {
		t.Errorf("agents have %q, annotations %v", pod.Spec.Containers[0].Args, pod.Annotations)
	}
}

// The value that lets meshes in is the field of the AgentConfig, which counts where both
// are written.
func TestMeshesAreASettingOfTheAgents(t *testing.T) {
	for values, want := range map[string]string{
		"cni.exclusive=false":                                  "spec:\n  cni:\n    exclusive: false\n",
		"cni.exclusive=false,config.overlay.mtu=1400":          "spec:\n  cni:\n    exclusive: false\n  overlay:\n    mtu: 1400\n",
		"cni.exclusive=false,config.cni.exclusive=true":        "spec:\n  cni:\n    exclusive: true\n",
		"cni.exclusive=true,config.cni.exclusive=false":        "spec:\n  cni:\n    exclusive: false\n",
		"config.overlay.mtu=1400,cni.confDir=/etc/other/net.d": "spec:\n  overlay:\n    mtu: 1400\n",
	} {
		if file := find[*corev1.ConfigMap](t, values)[0].Data["default.yaml"]; !strings.HasSuffix(strings.TrimSpace(file)+"\n", want) {
			t.Errorf("%s: config is\n%s", values, file)
		}
	}
}

// The agent has the privileges that docs/install.md explains, and no other; taken
// from a node it has no token either.
func TestTheAgentsPrivilegesAreTheDocumentedOnes(t *testing.T) {
	page, err := os.ReadFile("../../docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, values := range []string{"", "uninstall=true"} {
		pod := find[*appsv1.DaemonSet](t, values)[0].Spec.Template.Spec
		if !pod.HostNetwork || pod.HostPID || pod.HostIPC {
			t.Errorf("%q: host network %t, host PIDs %t, host IPC %t", values, pod.HostNetwork, pod.HostPID, pod.HostIPC)
		}
		if pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
			t.Errorf("%q: seccomp profile %s", values, pod.SecurityContext.SeccompProfile.Type)
		}
		for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
			s := c.SecurityContext
			if *s.Privileged || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || s.AppArmorProfile != nil {
				t.Errorf("%q: %s may %+v", values, c.Name, s)
			}
			if !slices.Equal(s.Capabilities.Drop, []corev1.Capability{"ALL"}) {
				t.Errorf("%q: %s keeps capabilities", values, c.Name)
			}
			for _, capability := range s.Capabilities.Add {
				if !strings.Contains(string(page), "| `"+string(capability)+"` |") {
					t.Errorf("docs/install.md does not say why %s", capability)
				}
			}
			for _, m := range c.VolumeMounts {
				v := pod.Volumes[slices.IndexFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == m.Name })]
				if v.HostPath == nil {
					continue
				}
				if host := v.HostPath.Path; m.MountPath != host && m.MountPath != "/host"+host {
					t.Errorf("%s is %s inside", host, m.MountPath)
				}
				if !strings.Contains(string(page), "| `"+v.HostPath.Path+"` |") {
					t.Errorf("docs/install.md does not say why %s", v.HostPath.Path)
				}
			}
		}
	}
	if pod := find[*appsv1.DaemonSet](t, "uninstall=true")[0].Spec.Template.Spec; *pod.AutomountServiceAccountToken {
		t.Error("the token's mount point would stay in the node's /run")
	}
}

func TestTheControllerHasNoPrivileges(t *testing.T) {
	pod := find[*appsv1.Deployment](t, "")[0].Spec.Template.Spec
	s := pod.Containers[0].SecurityContext
	if !*pod.SecurityContext.RunAsNonRoot || *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || s.Capabilities.Add != nil || pod.Volumes != nil {
		t.Errorf("the controller may %+v, %+v", pod.SecurityContext, s)
	}
}

// What each account may do, all of it.
func TestAccountsMayDoWhatIsListed(t *testing.T) {
	var have []string
	for _, r := range find[*rbacv1.ClusterRole](t, "") {
		have = append(have, permissions(r.Name, r.Rules)...)
	}
	for _, r := range find[*rbacv1.Role](t, "") {
		have = append(have, permissions(r.Namespace+"/"+r.Name, r.Rules)...)
	}
	want := `
fairlead-agent namespaces,nodes,pods,services: list,watch
fairlead-agent fairlead.dev agentconfigs,egresses,fairleadnodes: list,watch
fairlead-agent nodes,pods: get
fairlead-agent fairlead.dev fairleadnodes: get
fairlead-agent fairlead.dev fairleadnodes: create,patch
fairlead-agent fairlead.dev fairleadnodes/status: patch
fairlead-agent nodes/status: patch
fairlead-agent pods: patch
fairlead-agent events: create,patch
fairlead-controller nodes: get,list,watch
fairlead-controller fairlead.dev agentconfigs,egresses: list,watch
fairlead-controller fairlead.dev fairleadnodes: get,list,watch
fairlead-controller fairlead.dev agentconfigs/status,egresses/status: patch
fairlead-controller nodes/status: patch
fairlead-controller fairlead.dev fairleadnodes/status: patch
fairlead-system/fairlead-agent coordination.k8s.io leases: create,patch
fairlead-system/fairlead-controller coordination.k8s.io leases: create,get,list,watch
fairlead-system/fairlead-controller coordination.k8s.io leases fairlead-controller: update
`
	if have := strings.Join(have, "\n"); have != strings.TrimSpace(want) {
		t.Errorf("accounts may\n%s\nand should\n%s", have, want)
	}
}

// permissions are rules in words, one a line.
func permissions(who string, rules []rbacv1.PolicyRule) []string {
	var out []string
	for _, r := range rules {
		words := []string{who}
		for _, list := range [][]string{r.APIGroups, r.Resources, r.ResourceNames} {
			if text := strings.Join(list, ","); text != "" {
				words = append(words, text)
			}
		}
		out = append(out, strings.Join(words, " ")+": "+strings.Join(r.Verbs, ","))
	}
	return out
}

// The scheduler knows the ports of the node that Fairlead listens on.
func TestOwnPortsAreDeclared(t *testing.T) {
	for values, want := range map[string][]string{
		"":                              {"9468/TCP", "4789/UDP"},
		"metrics.port=9500":             {"9500/TCP", "4789/UDP"},
		"config.overlay.port=8472":      {"9468/TCP", "8472/UDP"},
		"config.overlay.mode=direct":    {"9468/TCP", "4789/UDP"}, // the device stands for peers that still wrap
		"config.overlay.mode=none":      {"9468/TCP"},
		"config.features.overlay=false": {"9468/TCP"},
	} {
		if got := hostPorts(t, find[*appsv1.DaemonSet](t, values)[0].Spec.Template.Spec); !slices.Equal(got, want) {
			t.Errorf("%s: the agent declares %q, want %q", values, got, want)
		}
	}
	if got := hostPorts(t, find[*appsv1.Deployment](t, "metrics.controllerPort=9501")[0].Spec.Template.Spec); !slices.Equal(got, []string{"9501/TCP"}) {
		t.Errorf("the controller declares %q", got)
	}
}

func hostPorts(t *testing.T, pod corev1.PodSpec) (out []string) {
	t.Helper()
	for _, c := range pod.Containers {
		for _, p := range c.Ports {
			if p.HostPort != p.ContainerPort { // the API server refuses others on the host's network
				t.Errorf("port %+v", p)
			}
			out = append(out, fmt.Sprintf("%d/%s", p.HostPort, cmp.Or(p.Protocol, corev1.ProtocolTCP)))
		}
	}
	return out
}
