package dump_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/dump"
	"fairlead.dev/fairlead/internal/fill"
	"fairlead.dev/fairlead/internal/sorted"
	"fairlead.dev/fairlead/internal/world"
)

// filled is a dump in which every field is something.
func filled(tb testing.TB) dump.Dump {
	tb.Helper()
	labels := map[reflect.Type]func(int) any{
		reflect.TypeFor[world.Labels](): func(n int) any { return world.NewLabels(map[string]string{"n": string(rune(n))}) },
	}
	pods := make([]*world.Pod, 3)
	(&fill.Filler{Make: labels}).Fill(&pods)
	// What is read of rules is one word.
	var rule nft.Rule
	if text, err := json.Marshal(nft.Rule{nft.Counter(), nft.Drop()}); err != nil || json.Unmarshal(text, &rule) != nil {
		tb.Fatal(err)
	}
	f := fill.Filler{Make: map[reflect.Type]func(int) any{
		reflect.TypeFor[world.Labels]():            labels[reflect.TypeFor[world.Labels]()],
		reflect.TypeFor[sorted.List[*world.Pod]](): func(int) any { return world.SortedPods(pods...) },
		reflect.TypeFor[nft.Rule]():                func(int) any { return rule },
		reflect.TypeFor[nft.Elements]():            func(int) any { return nft.Protocols(6, 17) },
		reflect.TypeFor[time.Time]():               func(n int) any { return time.Unix(int64(n), 0).UTC() },
	}}
	var d dump.Dump
	f.Fill(&d)
	d.World.LocalPods.List = world.SortedPods(pods[0])
	return d
}

func write(tb testing.TB, d dump.Dump) []byte {
	tb.Helper()
	var b bytes.Buffer
	if err := dump.Write(&b, d); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

// No field is left out, also none that is added later.
func TestEveryFieldReadsBack(t *testing.T) {
	t.Parallel()
	d := filled(t)
	for name, some := range map[string]dump.Dump{"both": d, "world": {World: d.World, Problems: d.Problems}, "writer": {By: d.By, At: d.At}, "state": {State: d.State}, "none": {}} {
		back, err := dump.Read(bytes.NewReader(write(t, some)))
		if err != nil || !reflect.DeepEqual(back, some) {
			t.Errorf("%s: %v\n%s\ncame back as\n%s", name, err, write(t, some), write(t, back))
		}
	}
	back, err := dump.Read(bytes.NewReader(write(t, d)))
	if err != nil {
		t.Fatal(err)
	}
	local := back.World.LocalPods.List.Slice()[0]
	if p, _ := back.World.Pods.List.Find(func(p *world.Pod) int { return p.Compare(local.Key) }); p != local {
		t.Error("the node's own pods are no longer among the pods")
	}
}

// What nobody wrote, or something else than this version, is refused with a sentence.
func TestWhatIsNoDumpIsRefused(t *testing.T) {
	t.Parallel()
	whole := string(write(t, filled(t)))
	changed := func(old, now string) string {
		if !strings.Contains(whole, old) {
			t.Fatalf("%s is not in %s", old, whole)
		}
		return strings.Replace(whole, old, now, 1)
	}
	for _, tt := range []struct{ file, want string }{
		{"", "it ends too early"},
		{"[]", "array"},
		{"{}", "it has no version"},
		{whole[:len(whole)/2], "it ends too early"},
		{whole + "{}", "something follows"},
		{changed(`"version":1`, `"version":2`), "of version 2, and this is for version 1"},
		{changed(`"version":1`, `"version":2,"later":true`), "of version 2"},
		{changed(`"VNI":`, `"VNJ":`), `unknown field "VNJ"`},
		{changed(`"VNI":`, `"vni":`), `unknown field "vni"`},
		{changed(`"version":1`, `"version":1,"version":1`), "field version is there twice"},
		{changed(`"Keep":["`, `"Keep":[null,"`), "state: Keep: element 0 is null"},
		{changed(`"Keep":["`, `"Keep":[7,"`), "state: Keep: a number where a text is expected"},
		{changed(`"Peers":{`, `"Peers":[],"Peers":{`), "world: Peers: an array where an object is expected"},
		{`{"version": 1, "state": [{"Tables": [{"Sets": [{"Elements": [{"end": "/w=="}, {}]}]}]}]}`, "two elements have no key"},
		{`{"version": 1, "state": [{"Tables": [{"Chains": [{"Rules": [{"text": "drop", "code": "` + strings.Repeat("AAAA", 1<<15) + `"}]}]}]}]}`, "longer than a kernel takes"},
		{changed(`"text":`, `"words":`), `unknown field "words"`},
		{changed(`"Peers":{"Nodes":[`, `"Peers":{"Nodes":[null,`), "world: Peers: Nodes: element 0 is null"},
		{changed(`"Pods":[{"Namespace"`, `"Pods":[null,{"Namespace"`), "world: Pods: element 0 is null"},
		{changed(`"state":[`, `"state":[null,`), "state: element 0 is null"},
		{changed(`"Links":[{`, `"Links":[null,{`), "state: Links: element 0 is null"},
		{`{"version": 1, "world": {}}`, "it has a world, and no problems"},
		{`{"version": 1, "world": {}, "problems": []}`, "the world has no Peers"},
		{`{"version": 1, "state": [{"Tables": [{"Name": "t", "Chains": [{"Name": "c"}, {"Name": "c", "Rules": [{}]}]}]}]}`, "state: one thing is told in two ways: nft flush chain inet t c"},
		{`{"version": 1, "state": [{"Tables": [{"Name": "t", "Sets": [{"Name": "s"}, {"Name": "s", "Elements": [{"key": "AA=="}]}]}]}]}`, "told in two ways"},
		{`{"version": 1, "state": [{"Links": [{"Name": "a"}]}, {"Links": [{"Name": "a", "MTU": 1400}]}]}`, "told in two ways"},
		{changed(`"LocalPods":[`, `"LocalPods":[{"Namespace":"a","Name":"b"},`), "pod a/b of LocalPods is not among Pods"},
		{`{"version": 1, "` + strings.Repeat("x", 100_000) + `": 1}`, `…" (of 100000 bytes)`},
	} {
		_, err := dump.Read(strings.NewReader(tt.file))
		if err == nil || !strings.Contains(err.Error(), tt.want) || len(err.Error()) > 2000 {
			t.Errorf("%.200s: error %v, want one with %q", tt.file, err, tt.want)
		}
	}
	for end := 0; end < len(whole)-1; end += 97 { // one place of many: each costs the reading of what is before it
		if _, err := dump.Read(strings.NewReader(whole[:end])); err == nil || !strings.Contains(err.Error(), "it ends too early") {
			t.Errorf("the first %d of %d bytes: %v", end, len(whole), err)
		}
	}
	if err := dump.Write(io.Discard, dump.Dump{World: &world.World{}}); err == nil {
		t.Error("a world without its parts is written, and nobody could read it")
	}
}

// A few pods and Services with many labels make no more of memory than others do.
func TestSelectionsAreBounded(t *testing.T) {
	const pods, labels = 1000, 12
	all := map[string]string{}
	for i := range labels {
		all[string(rune('a'+i))] = ""
	}
	d := filled(t)
	var list []*world.Pod
	for i := range pods {
		list = append(list, &world.Pod{Key: world.Key{Namespace: "n", Name: fmt.Sprint(i)}, Labels: world.NewLabels(all)})
	}
	asks := world.NewLabels(map[string]string{world.NodePortLocalEnabled: "true"})
	services := &world.Sorted[world.Service]{}
	for i := range 1<<labels - 1 {
		some := map[string]string{}
		for l := range all {
			if (i+1)>>(l[0]-'a')&1 == 1 {
				some[l] = ""
			}
		}
		services.List = append(services.List, &world.Service{Key: world.Key{Namespace: "n", Name: fmt.Sprintf("%05d", i)}, Annotations: asks, Selector: world.NewLabels(some)})
	}
	read := func(services *world.Sorted[world.Service]) (size, made int, err error) {
		d.World.Pods, d.World.LocalPods, d.World.Services = &world.Pods{List: world.SortedPods(list...)}, &world.Pods{}, services
		file := write(t, d)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err = dump.Read(bytes.NewReader(file))
		runtime.ReadMemStats(&after)
		return len(file), int(after.TotalAlloc - before.TotalAlloc), err
	}
	if size, made, err := read(services); err == nil || !strings.Contains(err.Error(), "too many values for its size") || made > 64*size {
		t.Errorf("of %d bytes %d are made: %v", size, made, err)
	}
	if _, _, err := read(&world.Sorted[world.Service]{List: services.List[:50]}); err != nil {
		t.Error(err)
	}
}

// Of whatever is read, there is a sentence about it or a dump; and that is written and
// read again as the same.
func FuzzRead(f *testing.F) {
	whole := write(f, filled(f))
	f.Add(whole)
	f.Add(write(f, dump.Dump{State: datapath.State{{}}}))
	f.Add([]byte(`{"version": 1, "state": [{"Tables": [{"Chains": [{"Rules": [{}, null]}], "Sets": [{"Elements": [{"end": "/w=="}, {}]}]}]}]}`))
	f.Add([]byte(`{"version": 1, "state": [{"Tables": [{"Chains": [{"Rules": [{}, null]}, {}]}]}]}`))
	f.Add(bytes.ReplaceAll(whole, []byte("{"), []byte("[")))
	f.Fuzz(func(t *testing.T, file []byte) {
		d, err := dump.Read(bytes.NewReader(file))
		if err != nil {
			if len(err.Error()) > 2000 {
				t.Errorf("a sentence of %d bytes", len(err.Error()))
			}
			return
		}
		_, _ = d.State.NFT(), d.State.IP()
		again := write(t, d)
		back, err := dump.Read(bytes.NewReader(again))
		if err != nil || !bytes.Equal(again, write(t, back)) {
			t.Errorf("%s\nis read back as\n%s (%v)", again, write(t, back), err)
		}
		if c := datapath.DiffStates(d.State, back.State); !c.Empty() {
			t.Errorf("what was read back differs:\n%s", c)
		}
	})
}
