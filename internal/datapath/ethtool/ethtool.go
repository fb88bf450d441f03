// Package ethtool describes the checksum offload of network devices as plain
// values and makes the kernel hold them.
//
// Of a device's many offloads only one is of interest: whether the checksums of
// what it sends are made late, by it, or early, by the CPU. The two requests for
// it are as old as ethtool(8), eight bytes each; on a virtual device they mean
// the one feature that ethtool(8) calls tx-checksum-ip-generic.
//
// Sources: Linux include/uapi/linux/ethtool.h, struct ethtool_value;
// net/ethtool/ioctl.c, ethtool_get_one_feature and ethtool_set_one_feature.
package ethtool

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A State is what an offload can be.
type State string

// The states, in the words of ethtool(8).
const (
	On  State = "on"
	Off State = "off"
)

// A Setting is the transmit checksum offload of one device of the calling
// thread's network namespace.
type Setting struct {
	Link  string
	State State
}

// String is the setting as a command of ethtool(8).
func (s Setting) String() string {
	return fmt.Sprintf("ethtool -K %s tx-checksum-ip-generic %s", s.Link, s.State)
}

// Read returns the state in force of the named device. The error of a device that
// is not there is ENODEV.
func Read(link string) (State, error) {
	v := value{cmd: unix.ETHTOOL_GTXCSUM}
	if err := v.exchange(link); err != nil {
		return "", fmt.Errorf("read checksum offload of %s: %w", link, err)
	}
	return v.state(), nil
}

// Apply makes the kernel hold s. A device that cannot is an error.
func Apply(s Setting) error {
	v := value{cmd: unix.ETHTOOL_STXCSUM}
	if s.State == On {
		v.data = 1
	}
	if err := v.exchange(s.Link); err != nil {
		return fmt.Errorf("%s: %w", s, err)
	}
	switch now, err := Read(s.Link); {
	case err != nil:
		return err
	case now != s.State: // the kernel takes a wish that a device cannot fulfil
		return fmt.Errorf("%s: it stays %s", s, now)
	}
	return nil
}

// Carries reports whether the named device has its carrier, and has it send from
// then on. A device that gets its carrier by the other end of its pair would begin
// some time later, and throw away what it is given until then; to ask makes the
// kernel catch up (Linux net/core/link_watch.c, linkwatch_sync_dev, by
// ethtool_op_get_link).
func Carries(link string) (bool, error) {
	v := value{cmd: unix.ETHTOOL_GLINK}
	if err := v.exchange(link); err != nil {
		return false, fmt.Errorf("read carrier of %s: %w", link, err)
	}
	return v.data != 0, nil
}

// value is struct ethtool_value.
type value struct{ cmd, data uint32 }

func (v *value) state() State {
	if v.data == 0 {
		return Off
	}
	return On
}

// request is struct ifreq with a pointer in its union.
type request struct {
	name [unix.IFNAMSIZ]byte
	data *value
	_    [24 - unsafe.Sizeof(uintptr(0))]byte
}

// exchange passes v to the kernel, which writes its answer into it.
func (v *value) exchange(link string) error {
	r := request{data: v}
	if len(link) >= len(r.name) {
		return unix.ENODEV
	}
	copy(r.name[:], link)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&r)))
	runtime.KeepAlive(v)
	if errno != 0 {
		return errno
	}
	return nil
}
