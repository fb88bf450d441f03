package cli

import (
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/internal/lab"
)

func labDemo(open opener) *cobra.Command {
	return &cobra.Command{
		Use:     "demo",
		Short:   "Run pods in the lab, connect them, and show which addresses are seen",
		Example: "  fairlead lab up && fairlead lab demo",
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := open()
			if err != nil {
				return err
			}
			ctx, cancel := interruptible(2 * time.Minute)
			defer cancel()
			trials, err := l.Demo(ctx)
			if err != nil {
				return err
			}
			if err := printTrials(c.OutOrStdout(), trials); err != nil {
				return err
			}
			printNext(c.ErrOrStderr(), l)
			for _, t := range trials {
				if !t.OK {
					return exitCode(1)
				}
			}
			return nil
		},
	}
}

func printTrials(to io.Writer, trials []lab.Trial) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "TRIED\tEXPECTED\tSEEN\tRESULT")
	for _, t := range trials {
		result := "ok"
		if !t.OK {
			result = "FAIL"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", t.Tried, t.Expected, t.Seen, result)
	}
	return w.Flush()
}

// printNext says how to go on, in words that can be pasted.
func printNext(to io.Writer, l lab.Lab) {
	self := os.Args[0]
	name := ""
	if l.Name != "lab" {
		name = " --name " + l.Name
	}
	fmt.Fprintf(to, `
Go on:
  %[1]s lab%[2]s status
  %[1]s lab%[2]s exec node/n1 -- fairlead doctor
  %[1]s lab%[2]s exec pod/demo/a -- fairlead lab ask tcp 198.51.100.10:8080
  %[1]s lab%[2]s exec node/n1 -- fairlead render
Take it down:
  %[1]s lab%[2]s down
`, self, name)
}
