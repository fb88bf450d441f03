package cni

import (
	"encoding/json"
	"errors"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"fairlead.dev/fairlead/internal/world"
)

func args(stdin string) *skel.CmdArgs {
	return &skel.CmdArgs{ContainerID: "c1", IfName: "eth0", Netns: "/run/netns/c1", StdinData: []byte(stdin),
		Args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=a"}
}

func TestPluginReadsWhatTheRuntimeWants(t *testing.T) {
	conf, r, err := parse(args(`{"cniVersion": "1.0.0", "name": "net", "runtimeConfig": {
		"portMappings": [
			{"hostPort": 8080, "containerPort": 80, "protocol": "TCP", "hostIP": ""},
			{"hostPort": 53, "containerPort": 5353, "protocol": "udp", "hostIP": "::ffff:192.0.2.1"},
			{"hostPort": 0, "containerPort": 90},
			{"hostPort": 1, "containerPort": 2, "protocol": "sctp", "hostIP": "2001:db8::1"}],
		"bandwidth": {"ingressRate": 1000, "ingressBurst": 2000, "egressRate": 3000, "egressBurst": 4294967295}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if err := conf.require(&r); err != nil {
		t.Fatal(err)
	}
	want := Request{
		ContainerID: "c1", Interface: "eth0", Netns: "/run/netns/c1", Namespace: "default", Pod: "a", Network: "net",
		HostPorts: []world.HostPort{
			{Port: 8080, Protocol: 6, PodPort: 80},
			{Address: netip.MustParseAddr("192.0.2.1"), Port: 53, Protocol: 17, PodPort: 5353},
			{Address: netip.MustParseAddr("2001:db8::1"), Port: 1, Protocol: 132, PodPort: 2},
		},
		Bandwidth: world.Bandwidth{IngressRate: 1000, IngressBurst: 2000, EgressRate: 3000, EgressBurst: 4294967295},
	}
	if !reflect.DeepEqual(r, want) {
		t.Errorf("got %+v\nwant %+v", r, want)
	}
}

func TestPluginSaysWhatMakesNoSense(t *testing.T) {
	for stdin, want := range map[string]string{
		`{"runtimeConfig": {"portMappings": [{"hostPort": 1, "containerPort": 2, "protocol": "icmp"}]}}`:    `protocol "icmp": use tcp, udp or sctp`,
		`{"runtimeConfig": {"portMappings": [{"hostPort": 65536, "containerPort": 2}]}}`:                    `use ports from 1 to 65535`,
		`{"runtimeConfig": {"portMappings": [{"hostPort": 1, "containerPort": 0}]}}`:                        `use ports from 1 to 65535`,
		`{"runtimeConfig": {"portMappings": [{"hostPort": 1, "containerPort": 2, "hostIP": "localhost"}]}}`: `hostIP "localhost" is no address`,
		`{"runtimeConfig": {"portMappings": 5}}`:                                                            `portMappings: `,
		`{"runtimeConfig": {"bandwidth": {"ingressRate": -1}}}`:                                             `bandwidth: `,
		`{"prevResult": {"cniVersion": "1.0.0", "ips": [{"address": "nowhere"}]}, "cniVersion": "1.0.0"}`:   `prevResult: `,
	} {
		conf, r, err := parse(args(stdin))
		if err == nil {
			err = conf.require(&r)
		}
		if err == nil {
			_, err = conf.before()
		}
		var refused *types.Error
		if !errors.As(err, &refused) || refused.Code != types.ErrInvalidNetworkConfig || !strings.Contains(refused.Msg, want) {
			t.Errorf("%s: %v, want %s", stdin, err, want)
		}
	}
}

// What a node's end of a chain has is not the pod's.
func TestPluginReadsWhatThePodHas(t *testing.T) {
	conf, err := parseConfig([]byte(`{"cniVersion": "1.0.0", "prevResult": {"cniVersion": "1.0.0",
		"interfaces": [{"name": "cni0"}, {"name": "eth0", "sandbox": "/run/netns/c1"}],
		"ips": [{"address": "10.1.0.5/16", "interface": 1}, {"address": "10.1.0.1/16", "interface": 0}, {"address": "fd00::5/64"},
			{"address": "10.1.0.9/16", "interface": 7}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := conf.before()
	want := []netip.Addr{netip.MustParseAddr("10.1.0.5"), netip.MustParseAddr("fd00::5")}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
}

// GC without a list would detach every pod of the node.
func TestPluginCollectsOnlyByAList(t *testing.T) {
	for stdin, want := range map[string][]string{
		`{}`:                                  nil,
		`{"cni.dev/valid-attachments": null}`: {},
		`{"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]}`: {"c1@eth0"},
	} {
		conf, err := parseConfig([]byte(stdin))
		if err != nil {
			t.Fatal(err)
		}
		got, err := conf.valid()
		if (err != nil) != (want == nil) || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v; want %v", stdin, got, err, want)
		}
	}
}

func TestConfigIsReadByRuntimes(t *testing.T) {
	content, err := Config("/run/a.sock", "/var/b")
	if err != nil {
		t.Fatal(err)
	}
	list, err := libcni.NetworkConfFromBytes(content)
	if err != nil || list.CNIVersion != "1.1.0" || list.Name != "fairlead" || len(list.Plugins) != 1 {
		t.Fatalf("%+v, %v", list, err)
	}
	var old struct{ CNIVersion string }
	if err := json.Unmarshal(content, &old); err != nil || old.CNIVersion != "1.0.0" {
		t.Errorf("a runtime that knows no list of versions takes %q, %v", old.CNIVersion, err)
	}
	conf, err := parseConfig(list.Plugins[0].Bytes)
	if err != nil || conf.Socket != "/run/a.sock" || conf.StateDir != "/var/b" || !conf.Capabilities["portMappings"] || !conf.Capabilities["bandwidth"] {
		t.Errorf("%+v, %v", conf, err)
	}
}

// Whatever a runtime says: there is an error, or a request that makes sense.
func FuzzParse(f *testing.F) {
	f.Add(`{"cniVersion": "1.0.0", "name": "n", "runtimeConfig": {"portMappings": [{"hostPort": 1, "containerPort": 2, "hostIP": "::"}]}}`, "K8S_POD_NAME=a;K8S_POD_UID=u")
	f.Add(`{"cniVersion": "1.1.0", "prevResult": {"cniVersion": "1.1.0", "ips": [{"address": "10.1.0.5/16", "interface": 3}], "interfaces": [null]}}`, ";;=")
	f.Add(`{"cniVersion": "0.3.1", "prevResult": {"ips": [{"version": "4", "address": "10.1.0.5/16"}], "routes": [{"dst": "0.0.0.0/0"}]}}`, "")
	f.Add(`{"cni.dev/valid-attachments": [{"containerID": "c"}], "runtimeConfig": {"bandwidth": {"egressRate": 1e3}}}`, "a")
	f.Fuzz(func(t *testing.T, stdin, extra string) {
		a := args(stdin)
		a.Args = extra
		conf, r, err := parse(a)
		if err != nil {
			return
		}
		if err := r.Validate(); err != nil {
			t.Error(err)
		}
		if conf.require(&r) == nil {
			for _, p := range r.HostPorts {
				if p.Port == 0 || p.PodPort == 0 || !slices.Contains([]byte{6, 17, 132}, p.Protocol) || p.Address.Is4In6() || p.Address.Zone() != "" {
					t.Errorf("%+v", p)
				}
			}
		}
		if before, err := conf.before(); err == nil {
			for _, a := range before {
				if !a.IsValid() || a.Is4In6() {
					t.Errorf("address %v", a)
				}
			}
		}
		_, _ = conf.valid()
	})
}

func FuzzValidate(f *testing.F) {
	f.Add("c1", "eth0")
	f.Add("../../etc/passwd", "eth0")
	f.Add("c1", "a/b")
	f.Add("", "")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, id, ifname string) {
		r := Request{ContainerID: id, Interface: ifname}
		if r.Validate() != nil {
			return
		}
		a := r.Attachment()
		if filepath.Dir(filepath.Join(dir, a.Key())) != dir || strings.Count(a.Key(), "@") != 1 {
			t.Errorf("%q leaves the directory or is ambiguous", a.Key())
		}
	})
}
