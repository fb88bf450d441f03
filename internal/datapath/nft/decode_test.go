package nft

import (
	"slices"
	"testing"
)

// Whatever the kernel sends, reading it neither fails nor hangs, and only what
// was asked for is taken for it.
func FuzzDecode(f *testing.F) {
	for _, r := range slices.Concat(words, destinations) {
		f.Add(encode(r.expressions()))
	}
	f.Add([]byte{})
	f.Add([]byte{3, 0, 1, 0})
	f.Add([]byte{255, 255, 1, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		bodies := 0
		list(b, func(_ uint16, body []byte) { bodies += len(body) + 4 })
		if bodies > len(b) {
			t.Errorf("%d bytes of attributes in %d", bodies, len(b))
		}
		decode(b).str(1)
		decode(b).u32(1)
		FoundRule(b).packets()
		is := 0
		for _, r := range words {
			if FoundRule(b).is(r) {
				is++
			}
		}
		if is > 1 {
			t.Errorf("%x is %d different rules", b, is)
		}
	})
}
