package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"time"
)

// explainPatience bounds a question to a cluster that may be in a bad way.
const explainPatience = 20 * time.Second

// Explain writes what is worth knowing of a cluster where something failed.
func Explain(w io.Writer, name string) {
	c, err := Open(name)
	if err != nil {
		fmt.Fprintln(w, err)
		return
	}
	for _, s := range c.Status() {
		if s.PID == 0 {
			fmt.Fprintf(w, "%s: %s is %s\n", s.Where, s.Component, s.State())
		}
	}
	late := fmt.Errorf("all of this has %s", explainPatience)
	ctx, cancel := context.WithTimeoutCause(context.Background(), explainPatience, late)
	defer cancel()
	show := func(cmd *exec.Cmd) {
		fmt.Fprintf(w, "\n%v\n", cmd.Args[2:])
		cmd.Stdout, cmd.Stderr = w, w
		if err := cmd.Run(); err != nil {
			fmt.Fprintln(w, errors.Join(err, context.Cause(ctx)))
		}
	}
	show(c.Kubectl(ctx, "get", "nodes,pods", "--all-namespaces", "--output=wide"))
	show(c.Kubectl(ctx, "get", "events", "--all-namespaces", "--field-selector=type!=Normal", "--sort-by=.lastTimestamp"))
	show(c.Kubectl(ctx, "logs", "--namespace="+FairleadNamespace, "--selector=app.kubernetes.io/name=fairlead", "--prefix", "--tail=20"))
}
