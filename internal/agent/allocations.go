package agent

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"fairlead.dev/fairlead/internal/replace"
	"fairlead.dev/fairlead/internal/world"
)

// givenOut is what the node gave out until now: the allocations that the next
// turn begins with, and when things were given back, which only people ask for.
// It never changes; a turn that gives something out makes another.
type givenOut struct {
	allocations *world.Allocations
	blocksFreed map[int]time.Time // by number
}

// allocationsFile is the file in the state directory that has them over restarts.
type allocationsFile struct {
	Blocks    []blockRecord    `json:"blocks,omitempty"`
	NodePorts *world.NodePorts `json:"nodePorts,omitempty"`
	Claims    []world.Claim    `json:"claims,omitempty"`
}

type blockRecord struct {
	world.Block
	FreedAt time.Time `json:"freedAt,omitzero"`
}

// next is g after a turn that gave out a.
func (g givenOut) next(a *world.Allocations, now time.Time) givenOut {
	out := givenOut{a, map[int]time.Time{}}
	if a.Blocks == nil {
		return out
	}
	before := map[int]int64{}
	if g.allocations.Blocks != nil {
		for _, b := range g.allocations.Blocks.List {
			before[b.Number] = b.Freed
		}
	}
	for _, b := range a.Blocks.List {
		if b.Freed == 0 {
			continue
		}
		out.blocksFreed[b.Number] = now.UTC().Truncate(time.Second)
		if b.Freed == before[b.Number] {
			out.blocksFreed[b.Number] = g.blocksFreed[b.Number]
		}
	}
	return out
}

func (g givenOut) encode() ([]byte, error) {
	var file allocationsFile
	if g.allocations.Blocks != nil {
		for _, b := range g.allocations.Blocks.List {
			file.Blocks = append(file.Blocks, blockRecord{b, g.blocksFreed[b.Number]})
		}
	}
	if g.allocations.Claims != nil {
		file.Claims = g.allocations.Claims.List
	}
	content, err := json.Marshal(file)
	if err != nil || g.allocations.NodePorts == nil {
		return content, err
	}
	return appendNodePorts(content, g.allocations.NodePorts), nil
}

// appendNodePorts puts the member nodePorts into an object, as package json would
// that takes a tenth of a turn for 10,000 of them.
func appendNodePorts(object []byte, p *world.NodePorts) []byte {
	const about = 192 // bytes that a port takes
	b := make([]byte, 0, len(object)+about*(len(p.List)+1))
	b = append(b, bytes.TrimSuffix(object, []byte{'}'})...)
	if len(b) > 1 {
		b = append(b, ',')
	}
	b = append(b, `"nodePorts":{"list":[`...)
	for i, n := range p.List {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(appendPort(b, n.Port), `,"pod":{"Namespace":`...), n.Pod.Namespace)
		b = appendString(append(b, `,"Name":`...), n.Pod.Name)
		b = appendString(append(b, `},"uid":`...), n.UID)
		b = strconv.AppendUint(append(b, `,"podPort":`...), uint64(n.PodPort), 10)
		b = append(b, '}')
	}
	b = append(b, `],"freed":[`...)
	for i, f := range p.Freed {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendPort(b, f), '}')
	}
	return append(b, `]}}`...)
}

// appendPort appends an object that is not ended.
func appendPort(b []byte, p world.Port) []byte {
	b = strconv.AppendBool(append(b, `{"ipv6":`...), p.IPv6)
	b = strconv.AppendUint(append(b, `,"protocol":`...), uint64(p.Protocol), 10)
	return strconv.AppendUint(append(b, `,"number":`...), uint64(p.Number), 10)
}

func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // a string has no error
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

func decodeGivenOut(content []byte) (givenOut, error) {
	out := givenOut{&world.Allocations{}, map[int]time.Time{}}
	var file allocationsFile
	if err := json.Unmarshal(content, &file); err != nil {
		return out, err
	}
	var wrong error
	out.allocations.NodePorts, wrong = checkedNodePorts(file.NodePorts)
	if file.Claims != nil {
		out.allocations.Claims = &world.Claims{List: file.Claims}
	}
	if file.Blocks == nil {
		return out, wrong
	}
	blocks := &world.Blocks{}
	for i, b := range file.Blocks {
		if b.Number < 0 || b.Freed < 0 || b.Holder == "" || i > 0 && b.Number <= file.Blocks[i-1].Number {
			return out, fmt.Errorf("block %d is %+v, which nobody wrote", i, b.Block)
		}
		blocks.List = append(blocks.List, b.Block)
		if b.Freed != 0 {
			out.blocksFreed[b.Number] = b.FreedAt
		}
	}
	out.allocations.Blocks = blocks
	return out, wrong
}

// checkedNodePorts refuses what nobody wrote, which is no record. Ports that are held
// twice, or that are none, are no harm: package nodeportlocal gives them to nobody.
func checkedNodePorts(p *world.NodePorts) (*world.NodePorts, error) {
	if p == nil || slices.IsSortedFunc(p.List, world.NodePort.Compare) {
		return p, nil
	}
	return nil, errors.New("the ports of the node are out of order, which nobody wrote")
}

// readGivenOut reads what an earlier agent gave out: nothing where there is no
// file.
func readGivenOut(stateDir string) (givenOut, error) {
	content, err := os.ReadFile(AllocationsFile(stateDir))
	if errors.Is(err, os.ErrNotExist) {
		content, err = []byte("{}"), nil
	}
	g, derr := decodeGivenOut(content)
	if err = cmp.Or(err, derr); err != nil {
		err = replace.Aside(AllocationsFile(stateDir), err)
	}
	return g, err
}

// AllocationsFile is where an agent with the given state directory keeps what it
// gave out.
func AllocationsFile(stateDir string) string { return filepath.Join(stateDir, "allocations.json") }

// giveOut puts what a turn gives out on the disk, before the kernel holds it. Where
// that fails it holds all the same, and every turn tries again: a full disk must
// not keep a node from following its cluster.
func (a *Agent) giveOut(now *world.Allocations) error {
	if *now != *a.given.allocations {
		a.given = a.given.next(now, time.Now())
	}
	unwritten := a.writePodSettings()
	if a.onDisk != nil && butSettings(a.given.allocations) == butSettings(a.onDisk) {
		return unwritten
	}
	content, err := a.given.encode()
	if err == nil {
		err = writeDurably(AllocationsFile(a.config.StateDir), content)
	}
	if err != nil {
		return errors.Join(unwritten, fmt.Errorf("what was given out is not on the disk: %w", err))
	}
	a.onDisk = a.given.allocations
	return unwritten
}

// butSettings is what the file of allocations has of a: settings have a file of their
// own.
func butSettings(a *world.Allocations) world.Allocations {
	out := *a
	out.Settings = nil
	return out
}

// unfinished is the name of a file while its content is on the way to the disk.
func unfinished(path string) string { return path + ".new" }

// writeDurably puts a file in place whole, once its content is on the disk.
func writeDurably(path string, content []byte) error {
	temporary := unfinished(path)
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}
