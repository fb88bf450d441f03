package kube

import (
	"net/netip"
	"slices"
	"testing"

	"fairlead.dev/fairlead/internal/source"
)

// What is read says where it comes from, so that no pod CIDR hides the API server.
func TestObjectsSayWhereTheAPIServerIs(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.put("nodes", anode("n1", "192.0.2.1"))
	read(t, s).until("the address is known", func(o *source.Objects) bool {
		return slices.Equal(o.APIServer, []netip.Addr{netip.MustParseAddr("127.0.0.1")})
	})
}
