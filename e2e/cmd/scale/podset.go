package main

import (
	"net/netip"

	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/nft"
	"fairlead.dev/fairlead/internal/feature"
	"fairlead.dev/fairlead/internal/world"
)

// setName is the set of all pods' addresses.
const tableName, setName = datapath.TablePrefix + "scale", "pods"

// podSet is a feature as policies will be: it needs every pod of the cluster and
// keeps their addresses in a set. It remembers what it made of which pods, so that
// one that changes costs no more than the comparing of pointers.
func podSet() feature.Feature {
	return feature.Feature{Name: "scale", Needs: world.Needs{Pods: world.ClusterPods}, Render: func() feature.Render {
		all := nft.EachOf(addresses, world.ComparePods)
		return feature.Memo(func(w *world.World) *world.Pods { return w.Pods }, func(w *world.World) feature.Result {
			set := &nft.Set{Name: setName, Type: nft.IPv4Addr, Elements: all(w.Pods.List)}
			return feature.Result{Part: datapath.Part{Tables: []*nft.Table{{Name: tableName, Sets: []*nft.Set{set}}}}}
		})
	}}
}

// addresses are those of a pod, as elements.
func addresses(p *world.Pod) []nft.Element {
	var out []nft.Element
	for _, a := range p.Addresses {
		if a.Is4() && !p.HostNetwork {
			out = append(out, nft.Element{Key: nft.Addr(a)})
		}
	}
	return out
}

func element(a netip.Addr) []byte {
	return append([]byte{8, 0, 1, 0}, nft.Addr(a)...) // NFTA_DATA_VALUE of four bytes
}
