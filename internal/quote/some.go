package quote

import (
	"fmt"
	"strings"
)

// Few is how many things of one kind a sentence names.
const Few = 8

// Some names the first few of so many things: "a", "a and b", "a, b and 7 more".
func Some(things []string, all int) string {
	named := things[:min(len(things), Few)]
	switch left := all - len(named); {
	case left > 0:
		return fmt.Sprintf("%s and %d more", strings.Join(named, ", "), left)
	case len(named) > 1:
		return strings.Join(named[:len(named)-1], ", ") + " and " + named[len(named)-1]
	}
	return strings.Join(named, ", ")
}
