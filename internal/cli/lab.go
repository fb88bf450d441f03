package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/lab"
	"fairlead.dev/fairlead/internal/lab/plan"
	"fairlead.dev/fairlead/internal/world"
)

func labCommand() *cobra.Command {
	name := lab.DefaultName
	c := &cobra.Command{
		Use:   "lab",
		Short: "A whole cluster on this machine, made of network namespaces",
		Long: `A whole cluster on this machine, made of network namespaces: nodes that run the
real agent, pods, hosts outside the cluster and firewalls. It needs root and
leaves nothing behind when it is taken down.

Several labs can exist side by side under different names. They are kept in
/run/fairlead/lab, or in $FAIRLEAD_LAB_DIR.`,
		Example: `  fairlead lab up
  fairlead lab demo
  fairlead lab exec node/n1 -- fairlead doctor
  fairlead lab down`,
	}
	c.PersistentFlags().StringVar(&name, "name", name, "name of the lab")
	open := func() (lab.Lab, error) {
		base := os.Getenv(lab.DirVariable)
		if base == "" {
			base = lab.DefaultDir
		}
		l, err := lab.New(name, base)
		if err != nil {
			return l, misuse{err}
		}
		return l, nil
	}
	c.AddCommand(
		labUp(open), labChange(open, "apply"), labChange(open, "delete"), labWait(open), labGet(open),
		labExec(open), labAgent(open), labNode(open), labLink(open), labSource(open), labLogs(open), labStatus(open),
		labDown(open), labDemo(open), labEcho(), labAsk(), labDaemon(open),
	)
	return c
}

// opener finds the lab that the flags name.
type opener func() (lab.Lab, error)

// interruptible is a context that ends with Ctrl-C or when d has passed.
func interruptible(d time.Duration) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	ctx, cancel := context.WithTimeout(ctx, d)
	return ctx, func() { cancel(); stop() }
}

func labUp(open opener) *cobra.Command {
	var file string
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "up",
		Short: "Make a lab: by default three nodes and one host outside",
		Example: `  fairlead lab up
  fairlead lab up -f lab.yaml`,
		RunE: func(c *cobra.Command, _ []string) error {
			l, err := open()
			if err != nil {
				return err
			}
			var config []byte
			if file != "" {
				if config, err = os.ReadFile(file); err != nil {
					return misuse{err}
				}
			}
			if _, problems := plan.Parse(file, config); len(problems) > 0 {
				return misuse{errors.New(sentences(problems))}
			}
			if os.Geteuid() != 0 {
				return errors.New("network namespaces need root: run it with sudo")
			}
			ctx, cancel := interruptible(timeout)
			defer cancel()
			return upWithProgress(ctx, l, config, c.ErrOrStderr())
		},
	}
	c.Flags().StringVarP(&file, "file", "f", "", "lab.yaml to read")
	c.Flags().DurationVar(&timeout, "timeout", time.Minute, "how long to wait for the agents to be ready")
	return c
}

// upWithProgress shows on a terminal one line that changes, else one line a
// step.
func upWithProgress(ctx context.Context, l lab.Lab, config []byte, to io.Writer) error {
	began := time.Now()
	show := func(s string) { fmt.Fprintf(to, "%5.1fs  %s\n", time.Since(began).Seconds(), s) }
	clear := ""
	if isTerminal(to) {
		clear = "\r\x1b[K"
		show = func(s string) { fmt.Fprintf(to, "%s%5.1fs  %s", clear, time.Since(began).Seconds(), s) }
	}
	err := l.Up(ctx, config, show)
	fmt.Fprint(to, clear)
	if err != nil {
		return err
	}
	fmt.Fprintf(to, "the lab %q is up after %.1f s; next: %s\n", l.Name, time.Since(began).Seconds(), l.Command("demo"))
	return nil
}

// said is the problems as an error, if there are any.
func said(problems []world.Problem) error {
	if len(problems) == 0 {
		return nil
	}
	return errors.New(sentences(problems))
}

func sentences(problems []world.Problem) string {
	var lines []string
	for _, p := range problems {
		lines = append(lines, p.String())
	}
	return strings.Join(lines, "\n")
}

func labDown(open opener) *cobra.Command {
	return &cobra.Command{
		Use:     "down",
		Short:   "Remove the lab and all that belongs to it",
		Example: "  fairlead lab down",
		RunE: func(_ *cobra.Command, _ []string) error {
			l, err := open()
			if err != nil {
				return err
			}
			return l.Down(context.Background())
		},
	}
}

func labDaemon(open opener) *cobra.Command {
	return &cobra.Command{
		Use:    "daemon",
		Short:  "Run the daemon of a lab",
		Hidden: true,
		RunE: func(_ *cobra.Command, _ []string) error {
			l, err := open()
			if err != nil {
				return err
			}
			return lab.Daemon(l)
		},
	}
}

// isTerminal reports whether w shows text to a person right now.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
