package agent

import (
	"errors"
	"testing"

	"fairlead.dev/fairlead/internal/datapath"
)

// A pod waits for its own wire and for the rules, and for nobody else's trouble.
func TestOnlyItsOwnFailuresFailAPod(t *testing.T) {
	failed := errors.New("failed")
	for _, c := range []struct {
		failure   datapath.Failure
		concerned bool
	}{
		{datapath.Failure{Kind: datapath.KindRules, Err: failed}, true},
		{datapath.Failure{Kind: datapath.KindLink, Link: "mine", Err: failed}, true},
		{datapath.Failure{Kind: datapath.KindRoute, Link: "mine", Err: failed}, true},
		{datapath.Failure{Kind: datapath.KindLink, Link: "another", Err: failed}, false},
		{datapath.Failure{Kind: datapath.KindSetting, Err: failed}, false},
		{datapath.Failure{Kind: datapath.KindRoute, Err: failed}, false},
	} {
		s := Snapshot{Reason: "failed", Failures: datapath.Failures{c.failure}}
		if err := s.failure("mine"); (err != nil) != c.concerned {
			t.Errorf("%+v: %v", c.failure, err)
		}
	}
	if (&Snapshot{Reason: "the objects cannot be read"}).failure("mine") == nil {
		t.Error("a turn that did not come to Apply made no wire")
	}
}
