// Package skeleton is a small feature with a bit of everything, to begin another with:
// what pods with the label rests=at-night send is dropped in the forward hook at night.
package skeleton

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/view"
	"fairlead.dev/fairlead/internal/world"
)

// Feature is the pods' rest.
var Feature = feature.Feature{
	Name:   "skeleton",
	Needs:  world.Needs{Pods: world.NodePods},
	Render: func() feature.Render { return feature.Memo(readsOf, render) },
	Views:  []view.View{{Name: "skeleton", New: newView}},
	Start:  func(h feature.Host) feature.Helper { return Watch(h, time.Now) },
}

// Render has no clock: the helper observes whether it is night.
const night world.Own[bool] = "skeleton.night"

// reads is all that render looks at; while it stays equal, so does the result.
type reads struct {
	pods *world.Pods
	dark bool
}

func readsOf(w *world.World) reads {
	dark := night.In(w)
	return reads{w.LocalPods, dark != nil && *dark}
}

func render(w *world.World) feature.Result {
	in := readsOf(w)
	report := world.Report{Object: "FairleadNode " + w.Node.Name, Type: "PodsRest", Status: in.dark, Reason: "Day", Message: "nobody rests"}
	if !in.dark {
		return feature.Result{Reports: []world.Report{report}}
	}
	sleepers := &nft.Set{Name: "sleepers4", Type: nft.IPv4.AddrType()}
	var elements []nft.Element
	for _, p := range resting(w) {
		for _, a := range p.Addresses {
			if a.Is4() { // and the same of IPv6, which is left out here
				elements = append(elements, nft.Element{Key: nft.Addr(a)})
			}
		}
	}
	sleepers.Elements = nft.Sorted(elements)
	report.Reason, report.Message = "Night", fmt.Sprintf("%d pods rest", len(resting(w)))
	return feature.Result{Reports: []world.Report{report}, Counts: map[string]int{"resting": len(resting(w))},
		Part: datapath.Part{Tables: []*nft.Table{{Name: datapath.TablePrefix + "skeleton", Sets: []*nft.Set{sleepers},
			Chains: []*nft.Chain{{Name: "forward", Type: nft.Filter, Hook: nft.Forward,
				Rules: []nft.Rule{{nft.In(nft.IPv4, sleepers.Name, nft.FieldSaddr), nft.Counter(), nft.Drop()}}}}}}}}
}

func resting(w *world.World) (out []*world.Pod) {
	for p := range w.LocalPods.List.All() {
		if when, _ := p.Labels.Get("rests"); when == "at-night" && !p.HostNetwork {
			out = append(out, p)
		}
	}
	return out
}

// Watch is the helper, by a clock.
func Watch(h feature.Host, now func() time.Time) feature.Helper {
	yes, no := true, false
	dark := func() *bool { // the same pointer says the same
		if hour := now().Hour(); hour < 6 || hour >= 22 {
			return &yes
		}
		return &no
	}
	return feature.Helper{
		Run: func(ctx context.Context) {
			for last := dark(); ; {
				select {
				case <-ctx.Done():
					return
				case <-time.After(time.Second):
				}
				if is := dark(); is != last {
					last = is
					h.Wake()
				}
			}
		},
		Observe: func() []world.Part { return []world.Part{night.Part(dark())} },
		Views:   map[string]func(context.Context, feature.Seen, url.Values) (any, error){"skeleton": show},
		Metrics: []*prometheus.Desc{count},
		Collect: func(s feature.Seen, ch chan<- prometheus.Metric) {
			if s.Result != nil { // nil: it is switched off
				ch <- prometheus.MustNewConstMetric(count, prometheus.GaugeValue, float64(s.Result.Counts["resting"]))
			}
		},
	}
}

var count = prometheus.NewDesc("fairlead_skeleton_pods", "Pods that rest.", nil, nil)

func show(_ context.Context, s feature.Seen, _ url.Values) (any, error) {
	if s.Result == nil || s.Result.Counts == nil {
		return view.Of[world.Key](), nil
	}
	var out []world.Key
	for _, p := range resting(s.World) {
		out = append(out, p.Key)
	}
	return view.Of(out...), nil
}

func newView() view.Answer {
	return &view.Table[world.Key]{Header: []string{"NAMESPACE", "NAME"}, None: "nobody rests",
		Name:  func(k world.Key) string { return k.Namespace + "/" + k.Name },
		Cells: func(k world.Key) []string { return []string{k.Namespace, k.Name} }}
}
