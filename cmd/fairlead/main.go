// Command fairlead is the whole of Fairlead in one binary: the agent, the
// command line, the lab, and with CNI_COMMAND set the CNI plugin.
package main

import (
	"os"

	"fairlead.dev/fairlead/internal/cli"
	"fairlead.dev/fairlead/internal/cni"
)

func main() {
	if os.Getenv("CNI_COMMAND") != "" {
		cni.PluginMain()
		return
	}
	os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr))
}
