package reserve

import (
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/world"
)

// Faults are a kernel's. Its calls fail as these functions do, where they are set.
type Faults struct {
	Socket, Bind func(world.Port) error
	Close        func(descriptor int) error // in place of close(2)
	Spared       int                        // the lowest descriptor that is kept for other work; 0: as it is
}

// NewFaulty is a keeper whose kernel has the faults, which may change later.
func NewFaulty(f *Faults) *Keeper {
	k := New()
	k.kernel = kernel{
		socket: func(p world.Port) (int, error) {
			if f.Socket != nil {
				if err := f.Socket(p); err != nil {
					return 0, err
				}
			}
			return newSocket(p)
		},
		bind: func(descriptor int, p world.Port) error {
			if f.Bind != nil {
				if err := f.Bind(p); err != nil {
					return err
				}
			}
			return bind(descriptor, p)
		},
		close: func(descriptor int) error {
			if f.Close != nil {
				return f.Close(descriptor)
			}
			return unix.Close(descriptor)
		},
		spared: func() int {
			if f.Spared > 0 {
				return f.Spared
			}
			return spared()
		},
	}
	return k
}
