package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"fairlead.dev/fairlead/internal/world"
)

// earlier is what releases before the journal wrote and read, as they did: an upgrade
// begins with what encode writes, and a downgrade with what decode makes of ours.
type earlier struct {
	Blocks    []earlierBlock   `json:"blocks,omitempty"`
	NodePorts *world.NodePorts `json:"nodePorts,omitempty"`
	Claims    []world.Claim    `json:"claims,omitempty"`
}

type earlierBlock struct {
	world.Block
	FreedAt time.Time `json:"freedAt,omitzero"`
}

func earlierEncode(a *world.Allocations, freedAt time.Time) ([]byte, error) {
	file := earlier{NodePorts: a.NodePorts}
	if a.Blocks != nil {
		for _, b := range a.Blocks.List {
			out := earlierBlock{Block: b}
			if b.Freed != 0 {
				out.FreedAt = freedAt
			}
			file.Blocks = append(file.Blocks, out)
		}
	}
	if a.Claims != nil {
		file.Claims = a.Claims.List
	}
	return json.Marshal(file)
}

func earlierDecode(content []byte) (*world.Allocations, error) {
	out := &world.Allocations{}
	var file earlier
	if err := json.Unmarshal(content, &file); err != nil {
		return out, err
	}
	if file.NodePorts != nil && !slices.IsSortedFunc(file.NodePorts.List, world.NodePort.Compare) {
		return out, errors.New("the ports of the node are out of order, which nobody wrote")
	}
	out.NodePorts = file.NodePorts
	if file.Claims != nil {
		out.Claims = &world.Claims{List: file.Claims}
	}
	if file.Blocks == nil {
		return out, nil
	}
	out.Blocks = &world.Blocks{}
	for i, b := range file.Blocks {
		if b.Number < 0 || b.Freed < 0 || b.Holder == "" || i > 0 && b.Number <= file.Blocks[i-1].Number {
			return out, fmt.Errorf("block %d is %+v, which nobody wrote", i, b.Block)
		}
		out.Blocks.List = append(out.Blocks.List, b.Block)
	}
	return out, nil
}
