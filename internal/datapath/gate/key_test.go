package gate_test

import (
	"bytes"
	"testing"

	"fairlead.dev/fairlead/internal/datapath/gate"
)

// What is read from a trie is a prefix or nothing; one that we put there is the same.
func FuzzPrefixOf(f *testing.F) {
	for _, p := range prefixes("0.0.0.0/0", "10.0.0.0/8", "192.0.2.1/32", "::/0", "fd00::/8", "2001:db8::1/128", "::ffff:0:0/96") {
		f.Add(gate.KeyOf(p))
	}
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{255}, 24))
	f.Fuzz(func(t *testing.T, key []byte) {
		p, ok := gate.PrefixOf(key)
		if !ok {
			return
		}
		if again, ok := gate.PrefixOf(gate.KeyOf(p)); !ok || again != p {
			t.Errorf("%s becomes %s, %v", p, again, ok)
		}
		if p.Bits() > p.Addr().BitLen() || p.Bits() < 0 {
			t.Errorf("%s is no prefix", p)
		}
	})
}
