package egress

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"fairlead.dev/fairlead/internal/doctor"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/view"
	"fairlead.dev/fairlead/internal/world"
)

// Shown is an Egress as one node sees it.
type Shown struct {
	Name        string         `json:"name"`
	Addresses   []ShownAddress `json:"addresses"`
	Pods        []string       `json:"pods"` // of this node, as NAMESPACE/NAME
	Unavailable string         `json:"unavailable"`
}

// ShownAddress is one of its addresses.
type ShownAddress struct {
	IP     netip.Addr `json:"ip"`
	Number uint16     `json:"number,omitempty"` // 0: the controller has given it none
	Node   string     `json:"node,omitempty"`   // "": no node has it
}

func newView() view.Answer {
	return &view.Table[Shown]{Name: func(s Shown) string { return s.Name }, Header: []string{"NAME", "ADDRESSES", "PODS HERE", "UNAVAILABLE"},
		None: "no Egress",
		Cells: func(s Shown) []string {
			var at []string
			for _, a := range s.Addresses {
				node := a.Node
				if node == "" {
					node = "-"
				}
				at = append(at, fmt.Sprintf("%s@%s", a.IP, node))
			}
			return []string{s.Name, strings.Join(at, ","), fmt.Sprint(len(s.Pods)), s.Unavailable}
		}}
}

// shown is the answer of the view.
func shown(s feature.Seen) any {
	if s.Result == nil || s.World == nil || none(s.World) {
		return view.Of[Shown]()
	}
	d := decisionOf(s.World)
	pods := map[string][]string{}
	for _, u := range d.uses {
		for _, p := range u.pods {
			pods[u.Name] = append(pods[u.Name], p.Namespace+"/"+p.Name)
		}
	}
	var out []Shown
	for _, e := range s.World.Egresses.List {
		one := Shown{Name: e.Name, Addresses: []ShownAddress{}, Pods: pods[e.Name], Unavailable: "Drop"}
		if one.Pods == nil {
			one.Pods = []string{}
		}
		if e.FallBack {
			one.Unavailable = "FallBack"
		}
		for _, a := range e.Addresses {
			one.Addresses = append(one.Addresses, ShownAddress{a.Address, a.Number, a.Node})
		}
		out = append(out, one)
	}
	return view.Of(out...)
}

func decisionOf(w *world.World) decision {
	ix := allocated.Of(w.Allocations)
	if ix == nil {
		ix = &Indices{}
	}
	return decide(w, ix)
}

var (
	podsMetric      = prometheus.NewDesc("fairlead_egress_pods", "Pods of this node that an Egress selects.", nil, nil)
	addressesMetric = prometheus.NewDesc("fairlead_egress_addresses", "Source addresses of Egresses that this node has.", nil, nil)
)

func helper() feature.Helper {
	return feature.Helper{
		Views: map[string]func(context.Context, feature.Seen, url.Values) (any, error){
			"egress": func(_ context.Context, s feature.Seen, _ url.Values) (any, error) { return shown(s), nil },
		},
		Metrics: []*prometheus.Desc{podsMetric, addressesMetric},
		Collect: func(s feature.Seen, ch chan<- prometheus.Metric) {
			if s.Result == nil {
				return
			}
			ch <- prometheus.MustNewConstMetric(podsMetric, prometheus.GaugeValue, float64(s.Result.Counts["pods"]))
			ch <- prometheus.MustNewConstMetric(addressesMetric, prometheus.GaugeValue, float64(s.Result.Counts["addresses"]))
		},
	}
}

// atWork asks whether pods that an Egress selects have an address of it.
var atWork = doctor.Check{
	ID: "egress", Ask: "Do the pods that an Egress selects have a source address of it?",
	Read: func(s doctor.Subject) []doctor.Finding {
		if !s.World.Config.Enabled("egress") {
			return []doctor.Finding{{Status: doctor.OK, Message: "Egress is switched off here"}}
		}
		if none(s.World) {
			return []doctor.Finding{{Status: doctor.OK, Message: "there is no Egress"}}
		}
		d := decisionOf(s.World)
		var out []doctor.Finding
		for _, r := range d.reports {
			if r.Status {
				out = append(out, doctor.Finding{Status: doctor.Warn, Object: r.Object, Message: r.Message,
					Hint: "look at the Egress's conditions: kubectl describe egress"})
			}
		}
		if len(out) == 0 {
			out = append(out, doctor.Finding{Status: doctor.OK,
				Message: fmt.Sprintf("%d Egresses have pods here, and this node has %d of their addresses", len(d.uses), len(d.owned))})
		}
		return out
	},
}
