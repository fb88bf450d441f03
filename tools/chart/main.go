// Command chart renders Fairlead's Helm chart to stdout, as "helm template" does:
//
//	go run -C tools/chart . -namespace fairlead-system -set apiServer=https://192.0.2.1:6443
//
// Its tests lint and render the chart with Helm's own packages.
package main

import (
	"flag"
	"fmt"
	"os"

	"helm.sh/helm/v4/pkg/strvals"
	"sigs.k8s.io/yaml"
)

func main() {
	values := map[string]any{}
	namespace := flag.String("namespace", "fairlead-system", "namespace of the release")
	flag.Func("set", "`NAME=VALUE` of the chart's; can be repeated", func(s string) error { return strvals.ParseInto(s, values) })
	flag.Func("values", "`FILE` of values; can be repeated", func(file string) error {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		return yaml.Unmarshal(content, &values)
	})
	flag.Parse()
	rendered, err := render(*namespace, values)
	if err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
		os.Exit(1)
	}
	if _, err := os.Stdout.Write(rendered); err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
		os.Exit(1)
	}
}
