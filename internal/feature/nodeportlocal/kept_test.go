package nodeportlocal_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/feature/nodeportlocal"
	"fairlead.dev/fairlead/internal/journal"
	"fairlead.dev/fairlead/internal/world"
)

var kept = nodeportlocal.Feature.Keeps[0]

// A disk is what a journal of ports says, in the order of lines.
type disk []journal.Value

// write writes what leads from one record to another.
func (d *disk) write(t *testing.T, last, now *nodeportlocal.NodePorts) {
	t.Helper()
	var before *world.Parts
	if last != nil {
		before = nodeportlocal.Allocated.Only(last)
	}
	kept.Changed(before, nodeportlocal.Allocated.Only(now), func(c journal.Change) {
		v, err := journal.ValueOf(c.Key, time.Time{}, c.Value)
		if err != nil {
			t.Fatal(err)
		}
		had := len(*d)
		if *d = slices.DeleteFunc(*d, func(o journal.Value) bool { return o.Key == v.Key }); (len(*d) < had) != c.Had {
			t.Errorf("%s had a value: %v, and is told as %v", c.Key, len(*d) < had, c.Had)
		}
		if v.JSON != nil {
			*d = append(*d, v)
		}
	})
}

func (d disk) read(t *testing.T) *nodeportlocal.NodePorts {
	t.Helper()
	a, wrong := kept.Read(d, nil)
	if len(wrong) > 0 {
		t.Errorf("nobody wrote %v", wrong)
	}
	return nodeportlocal.Allocated.Of(a)
}

// What is put on the disk comes back, whatever pods are called.
func TestRecordsComeBackFromTheDisk(t *testing.T) {
	for _, want := range []*nodeportlocal.NodePorts{
		{Freed: []world.Port{}},
		{List: nodeportlocal.SortedNodePorts(
			nodeportlocal.NodePort{Port: world.Port{Protocol: 6, Number: 61000}, Pod: world.Key{Namespace: "a", Name: "b"}, UID: "c", PodPort: 80},
			nodeportlocal.NodePort{Port: world.Port{IPv6: true, Protocol: 132, Number: 65535}, Pod: world.Key{Namespace: "a\"\\", Name: "é\n\x7f"}, PodPort: 1},
		), Freed: []world.Port{{Protocol: 6, Number: 9}, {Protocol: 6, Number: 2}, {Protocol: 17, Number: 2}, {IPv6: true, Protocol: 6, Number: 1}}},
	} {
		var d disk
		d.write(t, nil, want)
		if got := d.read(t); !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %+v, want %+v", d, got, want)
		}
		old, err := kept.Old.Write(d)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(old)
		if err != nil {
			t.Fatal(err)
		}
		var back disk
		if back, err = kept.Old.Read(text); err != nil || !reflect.DeepEqual(back.read(t), want) {
			t.Errorf("an earlier release writes %s, and that is %s, %v", text, back, err)
		}
	}
	if got := (disk{}).read(t); got != nil {
		t.Errorf("no record is %+v", got)
	}
}

// One of 50,000 mappings that comes or goes is one line.
func TestOneOfManyMappingsIsALine(t *testing.T) {
	var list []nodeportlocal.NodePort
	for i := range 50_000 {
		list = append(list, nodeportlocal.NodePort{Port: world.Port{Protocol: 6, Number: uint16(10_000 + i)}, Pod: world.Key{Namespace: "n", Name: fmt.Sprintf("p%05d", i)}, PodPort: 80})
	}
	now := &nodeportlocal.NodePorts{List: nodeportlocal.SortedNodePorts(list...)}
	without := &nodeportlocal.NodePorts{List: now.List.With(list[17:18], nil, nodeportlocal.NodePort.Compare), Freed: []world.Port{list[17].Port}}
	for what, c := range map[string][2]*nodeportlocal.NodePorts{"goes": {now, without}, "comes": {without, now}} {
		told := 0
		kept.Changed(nodeportlocal.Allocated.Only(c[0]), nodeportlocal.Allocated.Only(c[1]), func(c journal.Change) {
			if told++; c.Key != "10017/tcp" || !c.Had {
				t.Errorf("%s: %+v", what, c)
			}
		})
		if told != 1 {
			t.Errorf("one mapping %s, and %d lines are written", what, told)
		}
	}
}

// Random histories of a record come back from what was written of them.
func TestHistoriesComeBackFromTheDisk(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		var d disk
		var last *nodeportlocal.NodePorts
		owner := map[world.Port]string{}
		var freed []world.Port
		for step := range 60 {
			p := world.Port{IPv6: random.IntN(2) == 0, Protocol: []byte{6, 17, 132}[random.IntN(3)], Number: uint16(1 + random.IntN(6))}
			rests := slices.Index(freed, p)
			switch _, has := owner[p]; {
			case has && random.IntN(3) > 0:
				delete(owner, p)
				freed = append(freed, p)
			case has:
				delete(owner, p) // outside the range
			default:
				if rests >= 0 {
					freed = slices.Delete(freed, rests, rests+1)
				}
				owner[p] = fmt.Sprintf("p%d-%d", step, random.IntN(9))
			}
			now := &nodeportlocal.NodePorts{Freed: slices.Clone(freed)}
			var list []nodeportlocal.NodePort
			for port, pod := range owner {
				list = append(list, nodeportlocal.NodePort{Port: port, Pod: world.Key{Name: pod}, PodPort: 1})
			}
			now.List = nodeportlocal.SortedNodePorts(list...)
			slices.SortStableFunc(now.Freed, bySpace)
			d.write(t, last, now)
			last = now
			if got := d.read(t); !got.Equal(now) {
				t.Fatalf("step %d: %+v, want %+v", step, got, now)
			}
		}
	}
}

// bySpace is the order of families and protocols.
func bySpace(a, b world.Port) int {
	order := func(p world.Port) int {
		i := slices.Index([]byte{6, 17, 132}, p.Protocol)
		if p.IPv6 {
			i += 3
		}
		return i
	}
	return order(a) - order(b)
}

// Whatever values say, they are read or told as wrong, and what was read is read again.
func FuzzKept(f *testing.F) {
	f.Add("61000/tcp", `{"pod":{"Namespace":"a","Name":"b"},"uid":"u","podPort":1}`, "61001/udp6")
	f.Add("1/sctp", `{"freed":true}`, "x")
	f.Add("record", `{}`, "01/tcp")
	f.Add("65536/tcp", `[]`, "")
	f.Fuzz(func(t *testing.T, key, text, lost string) {
		if !json.Valid([]byte(text)) {
			return
		}
		a, _ := kept.Read([]journal.Value{{Key: key, JSON: []byte(text)}}, []string{lost})
		var d disk
		read := nodeportlocal.Allocated.Of(a)
		d.write(t, nil, read)
		if got := d.read(t); !got.Equal(read) {
			t.Errorf("%+v becomes %+v", read, got)
		}
	})
}
