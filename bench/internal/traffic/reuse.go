package traffic

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// CloseFirst accepts connections until l is shut down, tells of each, sends it
// one byte and closes it, so that TIME_WAIT stays on this side.
func CloseFirst(l int, accepted func(from netip.AddrPort)) error {
	for {
		c, from, err := accept(l)
		if errors.Is(err, unix.EINVAL) {
			return nil
		}
		if err != nil {
			return err
		}
		accepted(from)
		if _, err := write(c, []byte{1}); err != nil {
			return fmt.Errorf("send: %w", err)
		}
		unix.Close(c)
	}
}

// Pull connects from the calling thread's namespace, reads to the end, closes,
// and returns how long connecting took. A connection of before from the same
// port that waits for its last acknowledgement is waited for.
func Pull(to netip.AddrPort, source uint16) (took time.Duration, err error) {
	var c int
	began := time.Now()
	for end := began.Add(patience); ; {
		tried := time.Now()
		c, err = Connect(to, source)
		took = time.Since(tried)
		if !errors.Is(err, unix.EADDRNOTAVAIL) || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		return took, err
	}
	defer unix.Close(c)
	for b := make([]byte, 16); ; {
		if n, err := read(c, b); err != nil || n == 0 {
			return took, err
		}
	}
}
