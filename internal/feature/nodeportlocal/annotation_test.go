package nodeportlocal

import (
	"encoding/json"
	"net/netip"
	"slices"
	"testing"

	"fairlead.dev/fairlead/internal/world"
)

// Whatever an annotation says, what is taken from it are ports, and what is written
// of them says the same.
func FuzzAnnotation(f *testing.F) {
	for _, s := range []string{
		"", "invalid", "[]", "null", `{"podPort":80}`, `[{"podPort":80,"nodeIP":"x","nodePort":61000,"protocol":"tcp","ipFamily":"IPv6"}]`,
		`[{"podPort":-1,"nodePort":65536,"protocol":"udp"},{"podPort":1,"nodePort":1,"protocol":"sctp"},{"podPort":1.5}]`,
		`[{"podPort":80,"nodePort":61000,"protocol":"TCP"}]`, `[null,{"podPort":80,"nodePort":61000,"protocols":["tcp"]}]`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		said := parse(text)
		var mappings []Mapping
		for _, e := range said {
			if e.podPort == 0 || e.port.Number == 0 || world.ProtocolName(e.port.Protocol) == "" {
				t.Fatalf("%q says %+v", text, e)
			}
			mappings = append(mappings, Mapping{PodPort: e.podPort, Port: e.port, NodeIP: netip.IPv6LinkLocalAllNodes()})
		}
		written := string(appendAnnotation(nil, mappings))
		if written != "" && !json.Valid([]byte(written)) {
			t.Fatalf("written is %s", written)
		}
		if again := parse(written); !slices.Equal(again, said) {
			t.Errorf("%+v are written as %s, which says %+v", said, written, again)
		}
	})
}

// TestIPFamilyForAnnotation: readers know a family by Kubernetes' word for it.
func TestIPFamilyForAnnotation(t *testing.T) {
	for ipv6, word := range map[bool]string{false: "IPv4", true: "IPv6"} {
		m := Mapping{PodPort: 80, Port: world.Port{IPv6: ipv6, Protocol: 6, Number: 61000}, NodeIP: netip.IPv6Loopback()}
		want := `[{"podPort":80,"nodeIP":"::1","nodePort":61000,"protocol":"tcp","ipFamily":"` + word + `"}]`
		if got := string(appendAnnotation(nil, []Mapping{m})); got != want {
			t.Errorf("written is %s, want %s", got, want)
		}
	}
}
