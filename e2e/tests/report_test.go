package tests

import (
	"fmt"
	"strings"
	"testing"
)

// What agents tell the cluster is there for people to see.
func TestNodesAreReported(t *testing.T) {
	for _, node := range []string{"node1", "node2", "node3"} {
		until(t, node+" is reported ready", func() error {
			out, err := tryKubectl(t.Context(), "", "get", "fairleadnode", node, "-o", `jsonpath={.status.version} {.status.conditions[?(@.type=="Ready")].status}`)
			if err == nil && (!strings.HasSuffix(out, " True") || strings.HasPrefix(out, " ")) {
				err = fmt.Errorf("version and readiness are %q", out)
			}
			return err
		})
		until(t, node+" has a network", func() error {
			out, err := tryKubectl(t.Context(), "", "get", "node", node, "-o", `jsonpath={.status.conditions[?(@.type=="NetworkUnavailable")].status}`)
			if err == nil && out != "False" {
				err = fmt.Errorf("NetworkUnavailable is %q", out)
			}
			return err
		})
	}
}
