package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"fairlead": main})
}

// Every command behaves at the prompt as its script says: testdata/NAME.txtar.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(e *testscript.Env) error {
			e.Setenv("FAIRLEAD_SOCKET", e.WorkDir+"/agent.sock")
			e.Setenv("FAIRLEAD_LAB_DIR", e.WorkDir+"/lab")
			return nil
		},
	})
}
