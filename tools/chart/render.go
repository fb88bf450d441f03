package main

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
)

// chartDir is the chart's directory, as seen from this module's.
const chartDir = "../../deploy/charts/fairlead"

// render returns the chart's objects as YAML documents in the order in which they
// can be made.
func render(namespace string, values map[string]any) ([]byte, error) {
	c, err := loader.LoadDir(chartDir)
	if err != nil {
		return nil, err
	}
	in, err := util.ToRenderValues(c, values, common.ReleaseOptions{
		Name: "fairlead", Namespace: namespace, Revision: 1, IsInstall: true,
	}, common.DefaultCapabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(c, in)
	if err != nil {
		return nil, err
	}
	return join(files), nil
}

// order is that of the templates whose objects others need.
var order = []string{"namespace.yaml", "crds.yaml", "policies.yaml", "config.yaml", "agent-rbac.yaml", "controller-rbac.yaml"}

// join makes one text of what templates became.
func join(files map[string]string) []byte {
	rank := func(file string) int {
		if i := slices.Index(order, path.Base(file)); i >= 0 {
			return i
		}
		return len(order)
	}
	names := slices.SortedFunc(maps.Keys(files), func(a, b string) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
	})
	var out bytes.Buffer
	for _, name := range names {
		for document := range strings.SplitSeq("\n"+files[name], "\n---") {
			if document = strings.TrimSpace(document); document != "" {
				fmt.Fprintf(&out, "---\n%s\n", document)
			}
		}
	}
	return out.Bytes()
}
