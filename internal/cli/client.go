package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/internal/agent"
	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/dump"
	"fairlead.dev/fairlead/internal/feature/all"
	"fairlead.dev/fairlead/internal/quote"
)

// socketFlag adds --socket to a command that asks the node's agent.
func socketFlag(c *cobra.Command) *string {
	return c.Flags().String("socket", fromEnvironment("FAIRLEAD_SOCKET", cni.DefaultSocket), "the agent's unix socket ($FAIRLEAD_SOCKET)")
}

// fromEnvironment is the variable's value, or the usual one where it is not set.
func fromEnvironment(variable, usual string) string {
	if v := os.Getenv(variable); v != "" {
		return v
	}
	return usual
}

// asked is who answers about the node: its agent, or a file that this wrote.
type asked struct {
	socket, from *string
	recorded     *agent.Recorded // what is in the file, once it was read
}

// askedFlags adds --socket and --from to a command that a file can answer, too.
func askedFlags(c *cobra.Command) *asked {
	s := &asked{socket: socketFlag(c)}
	s.from = c.Flags().String("from", "", "ask a `FILE` that fairlead dump wrote, and no agent; - is standard input")
	return s
}

// file reports whether a file is asked.
func (s *asked) file() bool { return *s.from != "" }

// ask fills answer in.
func (s *asked) ask(cmd *cobra.Command, path string, answer any) error {
	if !s.file() {
		return ask(cmd.Context(), *s.socket, path, answer)
	}
	if cmd.Flags().Changed("socket") {
		return misuse{errors.New("--socket asks an agent, --from a file: choose one")}
	}
	if err := s.recall(cmd); err != nil {
		return misuse{fmt.Errorf("--from %s: %w", *s.from, err)}
	}
	v, err := s.recorded.Answer(path)
	if err != nil {
		return misuse{fmt.Errorf("--from %s: %w", *s.from, err)}
	}
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, answer)
}

// recall reads the file, once.
func (s *asked) recall(cmd *cobra.Command) error {
	if s.recorded != nil {
		return nil
	}
	in := cmd.InOrStdin()
	if *s.from != "-" {
		f, err := os.Open(*s.from)
		if err != nil {
			return plain(err)
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil && info.IsDir() {
			return errors.New("it is a directory: name the file in it")
		}
		in = f
	}
	d, err := dump.Read(in)
	if err != nil {
		return err
	}
	if s.recorded, err = agent.Recall(d, all.Features); err == nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", *s.from, written(d.By, d.At, time.Now()))
	}
	return err
}

// written says by which version a file was written, and when.
func written(by string, at, now time.Time) string {
	words := "written by an earlier version of fairlead"
	if by != "" {
		words = "written by fairlead " + quote.Text(by, quote.Sentence)
	}
	if at.IsZero() {
		return words + ", which did not say when"
	}
	words += " at " + at.UTC().Format(time.RFC3339) + ", "
	switch ago := now.Sub(at).Truncate(time.Second); {
	case ago < 0:
		return words + "which is in the future here: one of both clocks is wrong"
	case ago < time.Hour:
		return words + ago.String() + " ago"
	case ago < 48*time.Hour:
		return words + fmt.Sprintf("%d h ago", int(ago.Hours()))
	default:
		return words + fmt.Sprintf("%d days ago", int(ago.Hours()/24))
	}
}

// plain is err without the path, which the caller names.
func plain(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

// outputFlag adds -o to a command that can answer a program.
func outputFlag(c *cobra.Command) *string {
	return c.Flags().StringP("output", "o", "text", "text or json")
}

func checkOutput(output string, more ...string) error {
	if forms := append([]string{"text", "json"}, more...); !slices.Contains(forms, output) {
		return misuse{fmt.Errorf("-o %q: use %s", output, strings.Join(forms, " or "))}
	}
	return nil
}

// patience is how long the agent may take to answer: longer than a doctor's
// visit, which waits ten seconds for peers.
const patience = 30 * time.Second

// ask fills answer in from the agent behind the socket.
func ask(ctx context.Context, socket, path string, answer any) error {
	response, err := request(ctx, socket, path, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return json.NewDecoder(response.Body).Decode(answer)
}

// request returns what the agent behind the socket answers.
func request(ctx context.Context, socket, path string, header http.Header) (*http.Response, error) {
	client := &http.Client{Transport: &http.Transport{
		ResponseHeaderTimeout: patience,
		DisableKeepAlives:     true, // each request has a client of its own
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	question, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+path, nil)
	if err != nil {
		return nil, err
	}
	if header != nil {
		question.Header = header
	}
	response, err := client.Do(question)
	if err != nil {
		if wrong, ok := errors.AsType[*url.Error](err); ok {
			err = wrong.Err // the URL is nothing that a user could look up
		}
		return nil, fmt.Errorf("the agent does not answer on %s (is it running? see --socket): %w", socket, err)
	}
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusNotModified {
		defer response.Body.Close()
		message, _ := io.ReadAll(io.LimitReader(response.Body, 1<<16))
		return nil, fmt.Errorf("the agent answers: %s", strings.TrimSpace(string(message)))
	}
	return response, nil
}

// printJSON writes v for a program.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
