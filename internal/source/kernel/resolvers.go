package kernel

import (
	"bufio"
	"cmp"
	"io"
	"net/netip"
	"os"
	"strings"
)

// The usual file of resolvers, and how much of it is read: the C library takes
// three of them (resolv.conf(5)).
const (
	resolvConf    = "/etc/resolv.conf"
	mostOfFile    = 1 << 16
	mostResolvers = 8
)

// lookForResolvers returns those that the file names, or named when it could be
// read.
func (o *Observer) lookForResolvers() []netip.Addr {
	f, err := os.Open(cmp.Or(o.ResolvConf, resolvConf))
	if err == nil {
		defer f.Close()
		var found []netip.Addr
		if found, err = parseResolvers(io.LimitReader(f, mostOfFile)); err == nil {
			o.resolvers.Store(&found)
		}
	}
	if last := o.resolvers.Load(); last != nil {
		return *last
	}
	return nil
}

func parseResolvers(r io.Reader) ([]netip.Addr, error) {
	var out []netip.Addr
	lines := bufio.NewScanner(r)
	for lines.Scan() && len(out) < mostResolvers {
		f := strings.Fields(lines.Text())
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			out = append(out, a.WithZone("").Unmap())
		}
	}
	return out, lines.Err()
}
