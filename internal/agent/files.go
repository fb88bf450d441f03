package agent

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"fairlead.dev/fairlead/internal/allocations"
	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/replace"
	"fairlead.dev/fairlead/internal/settings"
)

// ObjectsDir is where what the API server told is kept for a start without it.
func ObjectsDir(stateDir string) string { return filepath.Join(stateDir, "objects") }

// StateFiles lists what agents may have left in the state directory, some of it
// half written.
func StateFiles(stateDir string) []string {
	files := append(slices.Concat(cni.Files(stateDir), settings.Files(stateDir), allocations.Files(stateDir)), ObjectsDir(stateDir))
	out := slices.Clone(files)
	tries, _ := filepath.Glob(filepath.Join(stateDir, tryPattern)) // fails for patterns in stateDir only
	out = append(out, tries...)
	for _, f := range files {
		out = append(out, f+replace.Damaged)
		out = append(out, replace.Leftovers(f)...)
	}
	return out
}

// tryPattern is the pattern of the names of files by which takes tries.
const tryPattern = ".takes-*.tmp"

// takes says why nothing can be written into the state directory, if nothing can.
func takes(stateDir string) error {
	f, err := os.CreateTemp(stateDir, tryPattern)
	if err == nil {
		_, err = f.WriteString("something")
		err = errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	if err != nil {
		return fmt.Errorf("%s cannot be written, so what is allocated is in memory only: %w", stateDir, err)
	}
	return nil
}
