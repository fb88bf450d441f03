package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"fairlead.dev/fairlead/internal/feature/nodeportlocal"
	"fairlead.dev/fairlead/internal/feature/snat"
	"fairlead.dev/fairlead/internal/source"
	"fairlead.dev/fairlead/internal/world"
)

// earlier is what releases before the journal wrote and read, as they did: an upgrade
// begins with what encode writes, and a downgrade with what decode makes of ours.
type earlier struct {
	Blocks    []earlierBlock `json:"blocks,omitempty"`
	NodePorts *earlierPorts  `json:"nodePorts,omitempty"`
	Claims    []source.Claim `json:"claims,omitempty"`
}

type earlierPorts struct {
	List  []nodeportlocal.NodePort `json:"list"`
	Freed []world.Port             `json:"freed,omitempty"`
}

type earlierBlock struct {
	snat.Block
	FreedAt time.Time `json:"freedAt,omitzero"`
}

func earlierEncode(a *world.Parts, freedAt time.Time) ([]byte, error) {
	var file earlier
	if p := nodeportlocal.Allocated.Of(a); p != nil {
		file.NodePorts = &earlierPorts{p.List.Slice(), p.Freed}
	}
	if blocks := snat.Allocated.Of(a); blocks != nil {
		for _, b := range blocks.List {
			out := earlierBlock{Block: b}
			if b.Freed != 0 {
				out.FreedAt = freedAt
			}
			file.Blocks = append(file.Blocks, out)
		}
	}
	if claims := source.Contested.Of(a); claims != nil {
		file.Claims = claims.List
	}
	return json.Marshal(file)
}

func earlierDecode(content []byte) (*world.Parts, error) {
	out := &world.Parts{}
	var file earlier
	if err := json.Unmarshal(content, &file); err != nil {
		return out, err
	}
	if file.NodePorts != nil && !slices.IsSortedFunc(file.NodePorts.List, nodeportlocal.NodePort.Compare) {
		return out, errors.New("the ports of the node are out of order, which nobody wrote")
	}
	if p := file.NodePorts; p != nil {
		out = out.With(nodeportlocal.Allocated.Only(&nodeportlocal.NodePorts{List: nodeportlocal.SortedNodePorts(p.List...), Freed: p.Freed}))
	}
	if file.Claims != nil {
		out = out.With(source.Contested.Only(&source.Claims{List: file.Claims}))
	}
	if file.Blocks == nil {
		return out, nil
	}
	blocks := &snat.BlockList{}
	for i, b := range file.Blocks {
		if b.Number < 0 || b.Freed < 0 || b.Holder == "" || i > 0 && b.Number <= file.Blocks[i-1].Number {
			return out, fmt.Errorf("block %d is %+v, which nobody wrote", i, b.Block)
		}
		blocks.List = append(blocks.List, b.Block)
	}
	return out.With(snat.Allocated.Only(blocks)), nil
}
