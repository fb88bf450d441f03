package cni

import "testing"

func TestPlaceInAConfiguration(t *testing.T) {
	ours, err := Config("/run/fairlead/agent.sock", "/var/lib/fairlead")
	if err != nil {
		t.Fatal(err)
	}
	for content, want := range map[string]Place{
		string(ours):           First,
		`{"type": "fairlead"}`: First,
		`{"plugins": [{"type": "fairlead"}, {"type": "portmap"}]}`:                       First,
		`{"plugins": [{"type": "bridge", "ipam": {}}, {"type": "fairlead", "more": 1}]}`: Behind,
		`{"plugins": [{"type": "bridge"}]}`:                                              Nowhere,
		`{"name": "fairlead"}`:                                                           Nowhere,
		`{"plugins": [{"type": "fairlead"}]`:                                             Nowhere,
		``:                                                                               Nowhere,
	} {
		if got := PlaceIn([]byte(content)); got != want {
			t.Errorf("%s: %s, want %s", content, got, want)
		}
	}
}

func FuzzPlaceIn(f *testing.F) {
	f.Add([]byte(`{"plugins": [{"type": "bridge"}, {"type": "fairlead"}]}`))
	f.Add([]byte(`{"type": "fairlead", "plugins": null}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		switch PlaceIn(content) {
		case Nowhere, First, Behind:
		default:
			t.Errorf("%q has no place", content)
		}
	})
}
