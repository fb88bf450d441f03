package kube

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"k8s.io/client-go/rest"
)

const (
	lookUpAgain   = 10 * time.Minute // the addresses of an API server that has a name
	mostAddresses = 16
)

// locate notes where the API server is, before the objects that it tells are read:
// at once where it has an address, and by ever new look-ups where it has a name.
func (s *Source) locate(ctx context.Context) {
	target, _, err := rest.DefaultServerUrlFor(s.config.REST)
	if err != nil {
		return // nothing is read from there either
	}
	host := target.Hostname()
	if a, err := netip.ParseAddr(host); err == nil {
		s.found([]netip.Addr{a})
		return
	}
	go s.follow(ctx, host)
}

// follow keeps the addresses that the API server's name has, until ctx is done. One that
// cannot be looked up now leaves those that it had.
func (s *Source) follow(ctx context.Context, host string) {
	tick := time.NewTicker(lookUpAgain)
	defer tick.Stop()
	for {
		if all, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host); err == nil && len(all) > 0 {
			s.found(all)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// found notes the addresses of the API server.
func (s *Source) found(all []netip.Addr) {
	all = slices.Clone(all)
	for i, a := range all {
		all[i] = a.WithZone("").Unmap()
	}
	slices.SortFunc(all, netip.Addr.Compare)
	all = slices.Compact(all)
	all = all[:min(len(all), mostAddresses)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Equal(all, s.server) {
		return
	}
	s.server = all
	s.announce()
}
