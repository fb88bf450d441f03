package allocations

import (
	"testing"

	"fairlead.dev/fairlead/internal/feature/all"
	"fairlead.dev/fairlead/internal/feature/nodeportlocal"
	"fairlead.dev/fairlead/internal/journal"
)

func kinds() (out []journal.Kind) {
	for _, f := range all.Features {
		out = append(out, f.Keeps...)
	}
	return out
}

// Kinds that this release does not know stay as they are.
func TestUnknownKindsStay(t *testing.T) {
	dir := t.TempDir()
	k, troubles, err := Open(dir, kinds(), journal.Local{})
	if err != nil || len(troubles) > 0 {
		t.Fatal(err, troubles)
	}
	k.others = []journal.Value{{Kind: "later", Key: "x", JSON: []byte("[1]")}}
	now := nodeportlocal.Allocated.Only(&nodeportlocal.NodePorts{})
	if err := k.Write(now); err != nil {
		t.Fatal(err)
	}
	k, troubles, err = Open(dir, kinds(), journal.Local{})
	if err != nil || len(troubles) > 0 || len(k.others) != 1 || string(k.others[0].JSON) != "[1]" {
		t.Errorf("%+v, %v, %v", k.others, troubles, err)
	}
}
