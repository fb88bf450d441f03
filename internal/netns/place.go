package netns

import (
	"fmt"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Place tells apart the directories in which namespaces are shown: "" where the one
// of path cannot be looked at. That a file is missing says something only in the
// directory in which it was: an empty one in its place, as in a container that was
// given no mount, says nothing.
func Place(path string) string {
	var s unix.Stat_t
	if unix.Stat(Shown(path), &s) != nil || s.Mode&unix.S_IFMT != unix.S_IFDIR {
		return ""
	}
	return fmt.Sprintf("%d:%d", s.Dev, s.Ino)
}

// Shown is the directory in which the namespace at path is shown: for that of a
// process the whole of /proc, since its own folder there goes with it.
func Shown(path string) string {
	if strings.HasPrefix(path, "/proc/") {
		return "/proc"
	}
	return filepath.Dir(path)
}
