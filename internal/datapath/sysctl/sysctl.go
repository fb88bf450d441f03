// Package sysctl describes kernel settings under /proc/sys/net and makes the
// kernel hold them.
package sysctl

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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
	if err := os.WriteFile(file(s.Key), []byte(s.Value), 0); err != nil {
		return fmt.Errorf("%s: %w", s, err)
	}
	return nil
}

func file(key string) string { return filepath.Join("/proc/sys", key) }
