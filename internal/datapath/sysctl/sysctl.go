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

	"fairlead.dev/fairlead/internal/netns"
)

// A Setting is one kernel setting of a network namespace.
type Setting struct {
	Netns string // path of the namespace; "": the calling thread's
	Key   string // "net/ipv4/ip_forward"
	Value string
	// From, if it is not "", is what the setting is changed from. One that is
	// something else is left alone: others may change it too.
	From string
	// Done: it was made so once. Whatever it is now, it stays.
	Done bool
}

// String is the setting as a command of sysctl(8).
func (s Setting) String() string {
	text := fmt.Sprintf("sysctl -w %s=%s", s.Key, s.Value)
	if s.Netns != "" {
		return "nsenter --net=" + s.Netns + " " + text
	}
	return text
}

// in runs f where s is.
func (s Setting) in(f func() error) error {
	if s.Netns == "" {
		return f()
	}
	return netns.Do(s.Netns, f)
}

// Now returns the value that the kernel has in the place of s.
func (s Setting) Now() (string, error) {
	var value string
	err := s.in(func() (err error) {
		value, err = Read(s.Key)
		return err
	})
	return value, err
}

// Read returns the value of key; "" where the kernel has no such setting.
func Read(key string) (string, error) {
	b, err := os.ReadFile(file(key))
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(b)), err
}

// BootID names the time since the kernel was started (random(4)).
func BootID() (string, error) { return Read("kernel/random/boot_id") }

// Apply makes the kernel hold s.
func Apply(s Setting) error {
	if err := s.in(s.write); err != nil {
		return fmt.Errorf("%s: %w", s, err)
	}
	return nil
}

func (s Setting) write() error {
	if s.From != "" {
		if now, err := Read(s.Key); err != nil || now != s.From {
			return err
		}
	}
	err := os.WriteFile(file(s.Key), []byte(s.Value), 0)
	if errors.Is(err, unix.EROFS) {
		err = os.WriteFile(filepath.Join(inContainer, s.Key), []byte(s.Value), 0)
		if errors.Is(err, os.ErrNotExist) {
			err = fmt.Errorf("/proc/sys is read-only: mount the host's /proc/sys/net at %s/net", inContainer)
		}
	}
	return err
}

// inContainer is where a container may have the host's settings, writable: its own
// are read-only, and runtimes mount nothing into /proc. Which network namespace
// they are of depends on who looks, not on where.
//
// Source: Linux net/sysctl_net.c, net_ctl_header_lookup.
const inContainer = "/host/proc/sys"

func file(key string) string { return filepath.Join("/proc/sys", key) }
