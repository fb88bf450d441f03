package agent

import (
	"path/filepath"

	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/replace"
)

// ObjectsDir is where what the API server told is kept for a start without it.
func ObjectsDir(stateDir string) string { return filepath.Join(stateDir, "objects") }

// StateFiles lists what agents may have left in the state directory, some of it
// half written.
func StateFiles(stateDir string) []string {
	files := append(cni.Files(stateDir), settingsPath(stateDir), AllocationsFile(stateDir), ObjectsDir(stateDir))
	out := append([]string{unfinished(AllocationsFile(stateDir))}, files...)
	for _, f := range files {
		out = append(out, f+replace.Damaged)
		out = append(out, replace.Leftovers(f)...)
	}
	return out
}
