package replace

import (
	"fmt"
	"os"
)

// Damaged ends the names of files that were set aside.
const Damaged = ".damaged"

// Aside moves a file that cannot be read out of the way, with what is in it, and says
// so: what is the error of reading it. One that was set aside before is replaced.
func Aside(path string, why error) error {
	to := path + Damaged
	err := os.RemoveAll(to)
	if err == nil {
		err = os.Rename(path, to)
	}
	if err != nil {
		return fmt.Errorf("%s cannot be read, nor set aside: %w; %w", path, why, err)
	}
	return fmt.Errorf("%s cannot be read, and was set aside as %s: %w", path, to, why)
}

// Copy is Aside for a file of which something can be read: it stays where it is, so that
// nothing is lost before another takes its place.
func Copy(path string, why error) error {
	to := path + Damaged
	err := os.RemoveAll(to)
	if err == nil {
		err = os.Link(path, to)
	}
	if err != nil {
		return Aside(path, why)
	}
	return fmt.Errorf("%s cannot be read in full, and was set aside as %s: %w", path, to, why)
}
