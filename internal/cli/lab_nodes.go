package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/lab"
	"fairlead.dev/fairlead/internal/lab/echo"
)

// notFound is a shell's exit code for a command that there is not.
const notFound = 127

func labExec(open opener) *cobra.Command {
	c := &cobra.Command{
		Use:   "exec TARGET -- COMMAND...",
		Short: "Run a command on a node, host or firewall, or in a pod",
		Long: `Run a command on a node, host or firewall, or in a pod. The target is
node/NAME, host/NAME, firewall/NAME or pod/NS/NAME. Only the network is the
target's; files and processes are this machine's.`,
		Example: `  fairlead lab exec node/n1 -- fairlead doctor
  fairlead lab exec pod/default/a -- fairlead lab ask tcp 198.51.100.10:8080`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			l, err := open()
			if err != nil {
				return err
			}
			t, err := lab.ParseTarget(args[0])
			if err != nil {
				return misuse{err}
			}
			command := args[1:]
			if command[0] == "--" {
				command = command[1:]
			}
			if len(command) == 0 {
				return misuse{errors.New("say what to run behind --")}
			}
			err = l.Exec(t, command)
			if errors.Is(err, exec.ErrNotFound) {
				fmt.Fprintf(c.ErrOrStderr(), "fairlead: %v\n", err)
				return exitCode(notFound)
			}
			return err
		},
	}
	c.Flags().SetInterspersed(false)
	return c
}

func labAgent(open opener) *cobra.Command {
	return labVerbs(open, verbs{
		name: "agent", short: "Stop, kill or start the agent of a node",
		list:    []string{"stop", "kill", "start"},
		request: func(verb string) string { return "agent-" + verb },
	})
}

func labNode(open opener) *cobra.Command {
	return labVerbs(open, verbs{
		name: "node", short: "Freeze, thaw or reboot a node",
		list:    []string{"freeze", "thaw", "reboot"},
		request: func(verb string) string { return verb },
	})
}

// verbs are things that can be done to a node.
type verbs struct {
	name, short string
	list        []string
	request     func(verb string) string
}

func labVerbs(open opener, v verbs) *cobra.Command {
	return &cobra.Command{
		Use:     fmt.Sprintf("%s %s NODE", v.name, strings.Join(v.list, "|")),
		Short:   v.short,
		Example: fmt.Sprintf("  fairlead lab %s %s n1", v.name, v.list[0]),
		Args:    cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			if !slices.Contains(v.list, args[0]) {
				return misuse{fmt.Errorf("%q is nothing that can be done: use %s", args[0], strings.Join(v.list, ", "))}
			}
			return doToNode(open, args[1], v.request(args[0]))
		},
	}
}

func labLink(open opener) *cobra.Command {
	return &cobra.Command{
		Use:     "link NODE up|down",
		Short:   "Set the carrier of a node's link up or down",
		Example: "  fairlead lab link n1 down",
		Args:    cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			if args[1] != "up" && args[1] != "down" {
				return misuse{fmt.Errorf("a link goes up or down, not %q", args[1])}
			}
			return doToNode(open, args[0], args[1])
		},
	}
}

func labSource(open opener) *cobra.Command {
	return &cobra.Command{
		Use:   "source NODE away|back",
		Short: "Cut a node's agent from the cluster's objects, or give them back",
		Long: `Cut a node's agent from the cluster's objects, as an API server that does not
answer does. With away the agent reads no object, report or status that is new, and what
it reports reaches nobody; apply and delete do not wait for it. With back it reads
everything again.`,
		Example: `  fairlead lab source n1 away
  fairlead lab source n1 back`,
		Args: cobra.ExactArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			if args[1] != "away" && args[1] != "back" {
				return misuse{fmt.Errorf("a source is away or back, not %q", args[1])}
			}
			return doToNode(open, args[0], "source-"+args[1])
		},
	}
}

func doToNode(open opener, node, verb string) error {
	l, err := open()
	if err != nil {
		return err
	}
	ctx, cancel := interruptible(time.Minute)
	defer cancel()
	return l.Do(ctx, node, verb)
}

func labEcho() *cobra.Command {
	var s echo.Server
	c := &cobra.Command{
		Use:   "echo",
		Short: "Answer every client with its address and port, over TCP, UDP and HTTP",
		Long: `Answer every client with its address and port, over TCP, UDP and HTTP. A TCP
client gets a line, and then back whatever it sends. A datagram and a GET are answered
with the line. Without flags: TCP and UDP port 8080 and HTTP port 80.`,
		Example: `  fairlead lab echo
  fairlead lab echo --tcp :9000 --http :9001`,
		RunE: func(c *cobra.Command, _ []string) error {
			if len(s.TCP)+len(s.UDP)+len(s.HTTP) == 0 {
				s = echo.Default
			}
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
			defer stop()
			return s.Run(ctx, func() {
				fmt.Fprintf(c.ErrOrStderr(), "listening: tcp %v udp %v http %v\n", s.TCP, s.UDP, s.HTTP)
			})
		},
	}
	c.Flags().StringSliceVar(&s.TCP, "tcp", nil, "ADDR:PORT to listen on; may be repeated")
	c.Flags().StringSliceVar(&s.UDP, "udp", nil, "the same for UDP")
	c.Flags().StringSliceVar(&s.HTTP, "http", nil, "the same for HTTP")
	return c
}

func labAsk() *cobra.Command {
	var q echo.Question
	var timeout time.Duration
	c := &cobra.Command{
		Use:   "ask tcp|udp|http ADDR:PORT",
		Short: "Ask an echo server which address and port it sees",
		Example: `  fairlead lab exec pod/default/a -- fairlead lab ask tcp 198.51.100.10:8080
  fairlead lab ask udp [2001:db8:100::10]:8080 --source-port 5000`,
		Args: cobra.ExactArgs(2),
		RunE: func(c *cobra.Command, args []string) error {
			q.Protocol, q.Server = args[0], args[1]
			if !slices.Contains([]string{"tcp", "udp", "http"}, q.Protocol) {
				return misuse{fmt.Errorf("protocol %q: use tcp, udp or http", q.Protocol)}
			}
			ctx, cancel := interruptible(timeout)
			defer cancel()
			seen, err := echo.Ask(ctx, q)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(c.OutOrStdout(), seen)
			return err
		},
	}
	c.Flags().IntVar(&q.SourcePort, "source-port", 0, "port to ask from; 0: any")
	c.Flags().DurationVar(&timeout, "timeout", 3*time.Second, "how long to wait for the answer")
	return c
}
