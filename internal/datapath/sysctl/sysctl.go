// Package sysctl describes kernel settings under /proc/sys/net and makes the
// kernel hold them.
package sysctl

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A Setting is one kernel setting of the calling thread's network namespace.
type Setting struct {
	Key   string // "net/ipv4/ip_forward"
	Value string
}

// String is the setting as a command of sysctl(8).
func (s Setting) String() string { return fmt.Sprintf("sysctl -w %s=%s", s.Key, s.Value) }

// Read returns the value of key; "" where the kernel has no such setting.
func Read(key string) (string, error) {
	b, err := os.ReadFile(file(key))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(b)), err
}

// Apply makes the kernel hold s.
func Apply(s Setting) error {
	err := os.WriteFile(file(s.Key), []byte(s.Value), 0)
	if errors.Is(err, unix.EROFS) {
		err = os.WriteFile(filepath.Join(inContainer, s.Key), []byte(s.Value), 0)
		if errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("/proc/sys is read-only: mount the host's /proc/sys/net at %s/net", inContainer)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s, err)
	}
	return nil
}

// inContainer is where a container may have the host's settings, writable: its own
// are read-only, and runtimes mount nothing into /proc. Which network namespace
// they are of depends on who looks, not on where.
//
// Source: Linux net/sysctl_net.c, net_ctl_header_lookup.
const inContainer = "/host/proc/sys"

func file(key string) string { return filepath.Join("/proc/sys", key) }
