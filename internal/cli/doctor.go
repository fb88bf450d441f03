package cli

import (
	"fmt"
	"io"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/internal/agent"
	"fairlead.dev/fairlead/internal/doctor"
)

func doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Examine this node's network and explain what is wrong",
		Long: `Examine this node's network and explain what is wrong.

The exit code is 0 if nothing fails, 1 otherwise.`,
		Example: `  fairlead doctor
  fairlead doctor --pod default/web-0
  fairlead doctor --probe
  fairlead doctor -o json | jq '.findings[] | select(.status != "ok")'`,
	}
	socket, output := socketFlag(cmd), outputFlag(cmd)
	pod := cmd.Flags().String("pod", "", "also connect to every port of the node that is DNATed to the pod `NAMESPACE/NAME`")
	probe := cmd.Flags().Bool("probe", false, "also check whether pods' addresses would pass between the nodes without the tunnel")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkOutput(*output); err != nil {
			return err
		}
		if namespace, name, ok := strings.Cut(*pod, "/"); *pod != "" && (!ok || namespace == "" || name == "") {
			return fmt.Errorf("--pod %s: write NAMESPACE/NAME, such as default/web-0", *pod)
		}
		var found agent.Findings
		query := url.Values{"pod": {*pod}}
		if *probe {
			query.Set("probe", "")
		}
		if err := ask(cmd.Context(), *socket, "/v1/doctor?"+query.Encode(), &found); err != nil {
			found.Findings = []doctor.Finding{{ID: "agent", Status: doctor.Fail, Message: err.Error(),
				Evidence: map[string]any{"socket": *socket}, Hint: "start the agent; pods keep their network meanwhile"}}
		}
		if err := printFindings(cmd.OutOrStdout(), *output, found); err != nil {
			return err
		}
		if doctor.Count(found.Findings)[doctor.Fail] > 0 {
			return exitCode(1)
		}
		return nil
	}
	return cmd
}

func printFindings(w io.Writer, output string, found agent.Findings) error {
	if output == "json" {
		return printJSON(w, found)
	}
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, f := range found.Findings {
		word := string(f.Status)
		if f.Status != doctor.OK {
			word = strings.ToUpper(word)
		}
		message := f.Message
		if f.Object != "" {
			message = f.Object + ": " + message
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\n", word, f.ID, message)
		if f.Hint != "" && f.Status != doctor.OK {
			fmt.Fprintf(tw, "\t\thint: %s\n", f.Hint)
		}
	}
	return tw.Flush()
}
