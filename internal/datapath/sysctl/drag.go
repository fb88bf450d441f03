package sysctl

import (
	"os"
	"path"
)

// Drags lists the settings that the kernel writes along with s: forwarding of
// the whole node is also that of each interface, those to come included.
//
// Sources: Linux net/ipv4/devinet.c, inet_forward_change; net/ipv6/addrconf.c,
// addrconf_fixup_forwarding.
func (s Setting) Drags() ([]Setting, error) {
	switch s.Key {
	case "net/ipv4/ip_forward":
		redirects := Setting{Key: "net/ipv4/conf/all/accept_redirects", Value: "1"}
		if s.Value != "0" {
			redirects.Value = "0" // a router believes no router
		}
		each, err := s.each("net/ipv4/conf")
		return append(each, redirects), err
	case "net/ipv6/conf/all/forwarding":
		return s.each("net/ipv6/conf")
	}
	return nil, nil
}

// each is forwarding of every interface, and of "all" and "default", which stand
// beside them, but for s itself.
func (s Setting) each(dir string) ([]Setting, error) {
	entries, err := os.ReadDir(file(dir))
	if err != nil {
		return nil, err
	}
	var out []Setting
	for _, e := range entries {
		if key := path.Join(dir, e.Name(), "forwarding"); key != s.Key {
			out = append(out, Setting{Key: key, Value: s.Value})
		}
	}
	return out, nil
}
