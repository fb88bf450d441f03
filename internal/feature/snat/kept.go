package snat

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"fairlead.dev/fairlead/internal/journal"
)

// keptBlocks is what is kept of blocks, by number.
var keptBlocks = func() journal.Kind {
	k := journal.Kept[BlockList]{Name: "snat/blocks", Own: Allocated, Changed: changedBlocks, Read: readBlocks, Dated: true}.Kind()
	k.Old = &journal.Old{Member: "blocks", Read: oldBlocks, Write: blocksForOld} // which had dates
	return k
}()

// A keptBlock is the value of a number.
type keptBlock struct {
	Holder    string       `json:"holder,omitempty"` // "": nobody knows
	Pod       string       `json:"pod,omitempty"`
	Addresses []netip.Addr `json:"addresses,omitempty"`
	Freed     int64        `json:"freed,omitempty"`
}

func changedBlocks(last, now *BlockList, tell func(journal.Change)) {
	var before []Block
	if last != nil {
		before = last.List
	}
	gone := func(to int) {
		for ; len(before) > 0 && before[0].Number < to; before = before[1:] {
			tell(journal.Change{Key: strconv.Itoa(before[0].Number), Had: true})
		}
	}
	for _, b := range now.List {
		gone(b.Number)
		had := len(before) > 0 && before[0].Number == b.Number
		if !had || !before[0].Equal(b) {
			tell(journal.Change{Key: strconv.Itoa(b.Number), Had: had, Value: keptBlock{b.Holder, b.Pod, b.Addresses, b.Freed}})
		}
		if had {
			before = before[1:]
		}
	}
	gone(1 << 16)
}

// readBlocks makes blocks of values. What is lost is a block whose holder nobody knows.
func readBlocks(values []journal.Value, lost []string) (*BlockList, []journal.Damage) {
	var out BlockList
	var wrong []journal.Damage
	for _, v := range values {
		var b keptBlock
		number, is := blockOf(v.Key)
		if !is || json.Unmarshal(v.JSON, &b) != nil || b.Freed < 0 {
			wrong = append(wrong, journal.Damage{Key: v.Key, Why: "it is no block"})
			lost = append(lost, v.Key)
			continue
		}
		out.List = append(out.List, Block{Number: number, Holder: b.Holder, Pod: b.Pod, Addresses: b.Addresses, Freed: b.Freed})
	}
	for _, key := range lost {
		if number, is := blockOf(key); is {
			out.List = append(out.List, Block{Number: number})
		}
	}
	if len(out.List) == 0 {
		return nil, wrong
	}
	slices.SortStableFunc(out.List, func(a, b Block) int { return cmp.Compare(a.Number, b.Number) })
	out.List = slices.CompactFunc(out.List, func(a, b Block) bool { return a.Number == b.Number })
	return &out, wrong
}

// blockOf is the number that a key is.
func blockOf(key string) (int, bool) {
	number, err := strconv.ParseUint(key, 10, 16)
	return int(number), err == nil && strconv.Itoa(int(number)) == key
}

// An oldBlock is what releases before the journal wrote of a block.
type oldBlock struct {
	Block
	FreedAt time.Time `json:"freedAt,omitzero"`
}

func oldBlocks(text json.RawMessage) ([]journal.Value, error) {
	var list []oldBlock
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, err
	}
	var out []journal.Value
	var wrong error
	for i, b := range list {
		v, err := journal.ValueOf(strconv.Itoa(b.Number), b.FreedAt, keptBlock{b.Holder, b.Pod, b.Addresses, b.Freed})
		if err != nil || b.Number < 0 || b.Freed < 0 || b.Holder == "" || i > 0 && b.Number <= list[i-1].Number {
			wrong = fmt.Errorf("block %d is %+v, which nobody wrote", i, b.Block)
			continue
		}
		out = append(out, v)
	}
	return out, wrong
}

func blocksForOld(values []journal.Value) (any, error) {
	var out []oldBlock
	for _, v := range values {
		a, wrong := readBlocks([]journal.Value{v}, nil)
		if len(wrong) > 0 || a.List[0].Holder == "" {
			continue // which an earlier release would refuse, with all others
		}
		b := oldBlock{Block: a.List[0]}
		if b.Freed != 0 {
			b.FreedAt = v.At
		}
		out = append(out, b)
	}
	slices.SortFunc(out, func(a, b oldBlock) int { return cmp.Compare(a.Number, b.Number) })
	return out, nil
}
