package cli

import "github.com/spf13/cobra"

// commands are the subcommands, in the order in which they are listed.
func commands() []*cobra.Command {
	return []*cobra.Command{
		agentCommand(),
		controllerCommand(),
		labCommand(),
		renderCommand(),
		diffCommand(),
		doctorCommand(),
		getCommand(),
		dumpCommand(),
		uninstallCommand(),
		versionCommand(),
	}
}
