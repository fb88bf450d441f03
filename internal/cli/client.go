package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/internal/cni"
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
	client := &http.Client{Transport: &http.Transport{
		ResponseHeaderTimeout: patience,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent"+path, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		if wrong, ok := errors.AsType[*url.Error](err); ok {
			err = wrong.Err // the URL is nothing that a user could look up
		}
		return fmt.Errorf("the agent does not answer on %s (is it running? see --socket): %w", socket, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		message, _ := io.ReadAll(io.LimitReader(response.Body, 1<<16))
		return fmt.Errorf("the agent answers: %s", strings.TrimSpace(string(message)))
	}
	return json.NewDecoder(response.Body).Decode(answer)
}

// printJSON writes v for a program.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
