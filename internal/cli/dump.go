package cli

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"fairlead.dev/fairlead/internal/replace"
)

func dumpCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dump",
		Short: "Write what this node's agent knows to a file, to be examined elsewhere",
		Long: `Write what this node's agent knows to a file, to be examined elsewhere: the objects as
the node sees them, what its kernel shows, which pods are attached, what was allocated, and
the desired state. doctor, get, render and diff answer from the file with --from.

The file has names, labels and addresses of the cluster's pods and nodes, and no Secrets,
tokens or keys. Only its owner may read it.`,
		Example: `  fairlead dump -o node.json
  fairlead dump | gzip > node.json.gz
  fairlead doctor --from node.json
  gunzip -c node.json.gz | fairlead get pods --from -`,
	}
	socket := socketFlag(cmd)
	output := cmd.Flags().StringP("output", "o", "-", "the `FILE` to write, with mode 0600; - is standard output")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *output == "" {
			return misuse{errors.New("-o is empty: name a file, or - for standard output")}
		}
		special, err := isSpecial(*output)
		if err != nil {
			return misuse{fmt.Errorf("-o %s: %w", *output, err)}
		}
		from, err := request(cmd.Context(), *socket, "/v1/dump", nil)
		if err != nil {
			return err
		}
		defer from.Body.Close()
		write := func(to io.Writer) error {
			if _, err := io.Copy(to, from.Body); err != nil {
				return fmt.Errorf("the dump is not whole: %w", plain(err))
			}
			return nil
		}
		switch {
		case *output == "-":
			return write(cmd.OutOrStdout())
		case special:
			return writeInto(*output, write)
		}
		return replace.With(*output, 0o600, write)
	}
	return cmd
}

// isSpecial reports whether a path leads to something that must not be replaced, such as
// a device or a pipe.
func isSpecial(path string) (bool, error) {
	info, err := os.Stat(path)
	switch {
	case path == "-" || errors.Is(err, os.ErrNotExist):
		return false, nil
	case err != nil:
		return false, plain(err)
	case info.IsDir():
		return false, errors.New("it is a directory: name a file in it")
	}
	return !info.Mode().IsRegular(), nil
}

func writeInto(path string, write func(io.Writer) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
