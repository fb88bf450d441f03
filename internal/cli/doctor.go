package cli

import (
	"errors"
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

With --from it examines a file that fairlead dump wrote. Questions that only the running
node can answer are skipped, and each is listed with the reason.

The exit code is 0 if nothing fails, 1 if something does, and 3 if nothing fails of what was
looked at and questions were skipped.`,
		Example: `  fairlead doctor
  fairlead doctor --pod default/web-0
  fairlead doctor --probe
  fairlead doctor --from node.json
  fairlead doctor -o json | jq '.findings[] | select(.status != "ok")'`,
	}
	from, output := askedFlags(cmd), outputFlag(cmd)
	pod := cmd.Flags().String("pod", "", "also connect to every port of the node that is DNATed to the pod `NAMESPACE/NAME`")
	probe := cmd.Flags().Bool("probe", false, "also check whether pods' addresses would pass between the nodes without the tunnel")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkOutput(*output); err != nil {
			return err
		}
		if namespace, name, ok := strings.Cut(*pod, "/"); *pod != "" && (!ok || namespace == "" || name == "") {
			return fmt.Errorf("--pod %s: write NAMESPACE/NAME, such as default/web-0", *pod)
		}
		if from.file() && (*pod != "" || *probe) {
			return misuse{errors.New("--pod and --probe connect to pods and peers, and a file has none: run them on the node, without --from")}
		}
		var found agent.Findings
		query := url.Values{"pod": {*pod}}
		if *probe {
			query.Set("probe", "")
		}
		err := from.ask(cmd, "/v1/doctor?"+query.Encode(), &found)
		if err != nil && from.file() {
			return err
		}
		if err != nil {
			found.Findings = []doctor.Finding{{ID: "agent", Status: doctor.Fail, Message: err.Error(),
				Evidence: map[string]any{"socket": *from.socket}, Hint: "start the agent; pods keep their network meanwhile"}}
		}
		if err := printFindings(cmd.OutOrStdout(), *output, found); err != nil {
			return err
		}
		switch n := doctor.Count(found.Findings); {
		case n[doctor.Fail] > 0:
			return exitCode(1)
		case n[doctor.Skipped] > 0:
			return exitCode(skipped)
		}
		return nil
	}
	return cmd
}

// skipped is the exit code of an examination that found nothing wrong and was not whole.
const skipped = 3

// examined is what -o json has.
type examined struct {
	agent.Findings
	Summary map[doctor.Status]int `json:"summary"`
}

func printFindings(w io.Writer, output string, found agent.Findings) error {
	count := doctor.Count(found.Findings)
	if output == "json" {
		return printJSON(w, examined{found, count})
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
	if err := tw.Flush(); err != nil {
		return err
	}
	var words []string
	for _, s := range doctor.Statuses {
		if s != doctor.Skipped || count[s] > 0 {
			words = append(words, fmt.Sprintf("%d %s", count[s], s))
		}
	}
	_, err := fmt.Fprintln(w, strings.Join(words, ", "))
	return err
}
