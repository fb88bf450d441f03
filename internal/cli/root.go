// Package cli is the fairlead command, one file per subcommand.
//
// What was asked for goes to stdout, everything else to stderr. Exit codes: 0
// fine, 1 not, 2 misuse. No meaning is carried by colour.
package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// Main runs the command line and returns the exit code.
func Main(args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.Execute()
	if err == nil {
		return 0
	}
	if code, ok := errors.AsType[exitCode](err); ok {
		return int(code)
	}
	fmt.Fprintf(stderr, "fairlead: %v\n", err)
	if _, ok := errors.AsType[misuse](err); ok {
		return 2
	}
	return 1
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "fairlead",
		Short: "A network for the pods of a Kubernetes node, and a doctor that explains it",
		Example: `  fairlead lab up && fairlead lab demo
  fairlead doctor
  fairlead render -f ./manifests --node n1`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	// A command that only holds others can be run, to refuse what is none.
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(), "{{if .Runnable}}",
		"{{if and .Runnable (not .HasAvailableSubCommands)}}", 1))
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return misuse{fmt.Errorf("%w; see %s --help", err, c.CommandPath())}
	})
	root.AddCommand(commands()...)
	strictArgs(root)
	return root
}

// strictArgs makes wrong arguments of c and its subcommands exit with 2. A
// command that only holds others would answer an unknown one with its help and 0.
func strictArgs(c *cobra.Command) {
	check := c.Args
	if check == nil {
		check = cobra.NoArgs
	}
	if !c.Runnable() {
		c.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	}
	c.Args = func(c *cobra.Command, args []string) error {
		if err := check(c, args); err != nil {
			return misuse{fmt.Errorf("%w; see %s --help", err, c.CommandPath())}
		}
		return nil
	}
	for _, sub := range c.Commands() {
		strictArgs(sub)
	}
}

// misuse is an error of the caller: a wrong flag, argument or input file.
type misuse struct{ error }

func (m misuse) Unwrap() error { return m.error }

// exitCode ends the command with a code and no further message.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }
