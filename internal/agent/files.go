package agent

import (
	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/replace"
)

// StateFiles lists what agents may have left in the state directory, some of it
// half written.
func StateFiles(stateDir string) []string {
	files := append(cni.Files(stateDir), settingsPath(stateDir), AllocationsFile(stateDir))
	out := append([]string{unfinished(AllocationsFile(stateDir))}, files...)
	for _, f := range files {
		out = append(out, replace.Leftovers(f)...)
	}
	return out
}
