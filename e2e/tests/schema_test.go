package tests

import (
	"strings"
	"testing"
)

// malformed are specs of an AgentConfig, each with what the API server's answer
// names: the field, and the way out.
var malformed = []struct{ spec, want string }{
	{`overlay: {mode: vxlam}`, `spec.overlay.mode: Unsupported value: "vxlam": supported values: "vxlan", "direct", "hybrid", "none"`},
	{`overlay: {mode: 5}`, `spec.overlay.mode: Invalid value: "integer"`},
	{`overlay: {vni: 16777216}`, `spec.overlay.vni in body should be less than or equal to 16777215`},
	{`overlay: {port: 0}`, `spec.overlay.port in body should be greater than or equal to 1`},
	{`overlay: {mtu: 1279}`, `spec.overlay.mtu: Invalid value: 1279: is too small: write 1280 to 65535, or 0 to derive it`},
	{`overlay: {mtu: 1.5}`, `spec.overlay.mtu: Invalid value: "number"`},
	{`overlay: {interface: 192.0.2.1}`, `spec.overlay.interface: Invalid value: "192.0.2.1": is an address: write a CIDR that has it, such as 192.0.2.1/32`},
	{`overlay: {interface: 192.0.2.1/24}`, `spec.overlay.interface: Invalid value: "192.0.2.1/24": has bits set behind its prefix`},
	{`overlay: {interface: "eth["}`, `spec.overlay.interface: Invalid value: "eth[": is no pattern of names`},
	{`overlay: {encryption: wireguard}`, `spec.overlay.encryption: Unsupported value: "wireguard": supported values: "none"`},
	{`overlay: {tunnel: x}`, `unknown field "spec.overlay.tunnel"`},
	{`nodeSNATRandomisePorts: true`, `unknown field "spec.nodeSNATRandomisePorts"`},
	{`nodeSNATRandomizePorts: "yes"`, `spec.nodeSNATRandomizePorts: Invalid value: "string"`},
	{`nodeSNATPortRange: 60999-32768`, `spec.nodeSNATPortRange: Invalid value: "60999-32768": invalid port range: write the lower port first`},
	{`nodeSNATPortRange: 32768`, `spec.nodeSNATPortRange: Invalid value: "integer"`},
	{`nodeSNATPortRange: Auto`, `spec.nodeSNATPortRange: Invalid value: "Auto": invalid port range: write LOW-HIGH, such as 32768-60999, or auto, or kernel`},
	{`nodeSNATPortRange: 32768-99999`, `spec.nodeSNATPortRange: Invalid value: "32768-99999": invalid port range: ports are 1 to 65535`},
	{`nodeSNATPortRange: 40000-41023, nodeSNATPortBlock: 1025`, `spec.nodeSNATPortBlock: Invalid value: is more ports than nodeSNATPortRange has: write a smaller nodeSNATPortBlock, or a wider nodeSNATPortRange`},
	{`nodeSNATPortBlock: -1`, `spec.nodeSNATPortBlock in body should be greater than or equal to 0`},
	{`nonMasqueradeCIDRs: [10.0.0.0/8, 10.0.0.1]`, `spec.nonMasqueradeCIDRs[1]: Invalid value: "10.0.0.1": is no CIDR: write an address and a prefix length`},
	{`nodePortLocal: {portRange: auto}`, `spec.nodePortLocal.portRange: Invalid value: "auto": invalid port range`},
	{`egressSNATPortRange: Kernel`, `spec.egressSNATPortRange: Invalid value: "Kernel": invalid port range: write LOW-HIGH, such as 32768-60999, or auto, or kernel`},
	{`policy: {onNewDenial: cut}`, `spec.policy.onNewDenial: Unsupported value: "cut": supported values: "keep"`},
	{`features: {snta: false}`, `spec.features: Invalid value: names what is no feature: features are egress, forward, guard, hostport, nodeportlocal, overlay, pod, snat, uplink`},
	{`features: {forward: true}, overlay: {mode: none}`, `spec.features: Invalid value: forward, guard, hostport, overlay and pod cannot be on while overlay.mode is none`},
}

// validate has the API server say what it would do with an AgentConfig of the spec.
func validate(t *testing.T, spec string) error {
	t.Helper()
	client, err := shared.Client()
	if err != nil {
		t.Fatal(err)
	}
	manifest := "{apiVersion: fairlead.dev/v1alpha1, kind: AgentConfig, metadata: {name: some}, spec: {" + spec + "}}"
	return client.RESTClient().Post().AbsPath("/apis/fairlead.dev/v1alpha1/agentconfigs").Param("dryRun", "All").Param("fieldValidation", "Strict").
		SetHeader("Content-Type", "application/yaml").Body([]byte(manifest)).Do(t.Context()).Error()
}

func TestMalformedSettingsAreRefusedByName(t *testing.T) {
	for _, c := range malformed {
		if err := validate(t, c.spec); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", c.spec, err, c.want)
		}
	}
}

func TestSettingsThatAreRightAreTaken(t *testing.T) {
	for _, spec := range []string{
		`egressSNATRandomizePorts: true, egressSNATPortRange: kernel`,
		``, `overlay: {mode: hybrid, mtu: 0, interface: "eth[0-3]*"}, features: {snat: false}`,
		`nodeSNATRandomizePorts: true, nodeSNATPortRange: 32768-65535, nodeSNATPortBlock: 512, nonMasqueradeCIDRs: [10.0.0.0/8, "2001:db8::/32"]`,
		`egressSNATRandomizePorts: null, egressSNATPortRange: auto, policy: {onNewDenial: keep}, nodePortLocal: {portRange: 61000-62000}`,
	} {
		if err := validate(t, spec); err != nil {
			t.Errorf("%s: %v", spec, err)
		}
	}
}
