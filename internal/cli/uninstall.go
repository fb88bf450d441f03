package cli

import (
	"debug/buildinfo"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"fairlead.dev/fairlead/internal/agent"
	"fairlead.dev/fairlead/internal/cni"
	"fairlead.dev/fairlead/internal/datapath"
	"fairlead.dev/fairlead/internal/datapath/sysctl"
	"fairlead.dev/fairlead/internal/quote"
	"fairlead.dev/fairlead/internal/replace"
	"fairlead.dev/fairlead/internal/settings"
)

func uninstallCommand() *cobra.Command {
	var u uninstall
	var dryRun, yes, wait bool
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove everything of Fairlead's from this node, and restore what was there before",
		Long: `Remove everything of Fairlead's from this node, and restore what was there before.

It removes Fairlead's rules, links, routes and neighbours in the kernel, its files in the
CNI directories, its IPAM state and its socket. It restores kernel settings that the agent
changed since the machine booted, unless somebody else changed them meanwhile. Each step is
printed as the command that would do it. A second run has nothing to do.

Stop the agent first, and whatever would restart it. Pods whose network is Fairlead's lose
it, so drain the node, or accept that with --yes.`,
		Example: `  fairlead uninstall --dry-run
  kubectl drain n1 --ignore-daemonsets && ssh n1 fairlead uninstall
  fairlead uninstall --yes`,
	}
	f := cmd.Flags()
	socket := socketFlag(cmd)
	f.StringVar(&u.stateDir, "state-dir", fromEnvironment("FAIRLEAD_STATE_DIR", cni.DefaultStateDir),
		"directory of the IPAM state ($FAIRLEAD_STATE_DIR)")
	f.StringVar(&u.cniConfDir, "cni-conf-dir", fromEnvironment("FAIRLEAD_CNI_CONF_DIR", "/etc/cni/net.d"),
		"where the container runtime looks for network configurations ($FAIRLEAD_CNI_CONF_DIR)")
	f.StringVar(&u.cniBinDir, "cni-bin-dir", fromEnvironment("FAIRLEAD_CNI_BIN_DIR", "/opt/cni/bin"),
		"where the container runtime looks for CNI plugins ($FAIRLEAD_CNI_BIN_DIR)")
	f.BoolVar(&dryRun, "dry-run", false, "print the commands and do nothing")
	f.BoolVar(&yes, "yes", false, "continue although pods lose their network")
	f.BoolVar(&wait, "wait", false, "when all is done, do not exit: for a container that would be restarted")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		u.socket = *socket
		if dryRun {
			err := u.plan()
			u.print(cmd.OutOrStdout())
			return err
		}
		unlock, err := u.alone()
		if err != nil {
			return err
		}
		defer unlock()
		if err := u.plan(); err != nil {
			return err
		}
		if u.wires > 0 && !yes {
			return fmt.Errorf("pods that would lose their network: %d; drain the node first, or say --yes", u.wires)
		}
		if err := u.run(cmd.OutOrStdout()); err != nil || !wait {
			return err
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
		defer stop()
		<-ctx.Done()
		return nil
	}
	return cmd
}

// An uninstall takes Fairlead from a node in steps.
type uninstall struct {
	socket, stateDir, cniConfDir, cniBinDir string

	steps  []uninstallStep
	kernel int // how many of the steps come before the first that forgets what was before
	wires  int // pods whose network is ours
}

type uninstallStep struct {
	text string // commands that would do it, one a line
	do   func() error
}

func (u *uninstall) step(text string, do func() error) {
	u.steps = append(u.steps, uninstallStep{text, do})
}

func (u *uninstall) print(w io.Writer) {
	for _, s := range u.steps {
		fmt.Fprintln(w, s.text)
	}
}

// run takes the steps and prints each. One that fails does not stop the others,
// but what settings were is not forgotten until they are so again.
func (u *uninstall) run(w io.Writer) error {
	var failed []error
	for i, s := range u.steps {
		if i == u.kernel && len(failed) > 0 {
			failed = append(failed, errors.New("the rest stays until that is done: mend it and try again"))
			break
		}
		if err := s.do(); err != nil {
			failed = append(failed, err)
			continue
		}
		fmt.Fprintln(w, s.text)
	}
	return errors.Join(failed...)
}

// alone makes sure that no agent runs, and that none starts until unlock is
// called.
func (u *uninstall) alone() (unlock func(), err error) {
	if c, err := net.DialTimeout("unix", u.socket, time.Second); err == nil {
		c.Close()
		return nil, fmt.Errorf("an agent answers on %s: stop it first, and whatever would start it again", u.socket)
	}
	if !slices.ContainsFunc(agent.StateFiles(u.stateDir), exists) {
		return func() {}, nil // no agent was here, and a lock would be the first trace
	}
	lock, err := cni.Lock(u.stateDir)
	if err != nil {
		return nil, fmt.Errorf("%w: stop it first, and whatever would start it again", err)
	}
	return func() { lock.Close() }, nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// plan finds out what there is to do. The configuration goes first, so that no
// pod is begun meanwhile, and the plugin, which ends pods, last.
func (u *uninstall) plan() error {
	if err := u.planConfiguration(); err != nil {
		return err
	}
	if err := u.planKernel(); err != nil {
		return err
	}
	u.kernel = len(u.steps)
	u.planOwn(u.stateDir, agent.StateFiles(u.stateDir))
	var sockets []string
	if info, err := os.Lstat(u.socket); err == nil && info.Mode().Type() == os.ModeSocket {
		sockets = append(sockets, u.socket)
	}
	u.planOwn(filepath.Dir(u.socket), sockets)
	u.planFile(filepath.Join(u.cniBinDir, cni.PluginFile), isFairlead)
	return nil
}

// planConfiguration is about what the container runtime is told. Somebody else's
// configuration that names our plugin would keep every pod from starting.
func (u *uninstall) planConfiguration() error {
	ours := filepath.Join(u.cniConfDir, cni.ConfigFile)
	files, err := libcni.ConfFiles(u.cniConfDir, []string{".conf", ".conflist", ".json"}) // as runtimes look for them
	if err != nil {
		return err
	}
	for _, file := range files {
		if place := placeIn(file); place == cni.Behind || place == cni.First && file != ours {
			return fmt.Errorf("%s names the plugin %s: take it out there first, or no pod can start on this node", file, cni.PluginFile)
		}
	}
	u.planFile(ours, func(file string) bool { return placeIn(file) == cni.First })
	return nil
}

func (u *uninstall) planKernel() error {
	have, err := datapath.Read(nil)
	if err != nil {
		return err
	}
	u.wires = have.Wires()
	if changes := datapath.Diff(have, nil); !changes.Empty() {
		u.step(strings.TrimSpace(changes.String()), func() error { return datapath.Apply(changes) })
	}
	for _, err := range settings.Unknown(u.stateDir) {
		u.step("# settings stay as the agent set them, since what they were is not known: "+quote.Errors(err), func() error { return nil })
	}
	node, pods, err := settings.Before(u.stateDir)
	if err != nil {
		return err
	}
	for _, s := range slices.Concat(node, pods) {
		u.step(s.String(), func() error { return sysctl.Apply(s) })
	}
	return nil
}

// planOwn removes the paths in dir, and dir if nothing else is in it.
func (u *uninstall) planOwn(dir string, paths []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	left := len(entries)
	for _, e := range entries {
		if path := filepath.Join(dir, e.Name()); slices.Contains(paths, path) {
			u.planRemoval(path)
			left--
		}
	}
	if left > 0 {
		return
	}
	u.step("rmdir "+dir, func() error {
		err := os.Remove(dir)
		if errors.Is(err, unix.EBUSY) {
			return nil // somebody mounted it for the agent
		}
		return err
	})
}

// planFile removes the file at path if it is ours, and what killed agents left
// beside it.
func (u *uninstall) planFile(path string, ours func(string) bool) {
	for _, left := range replace.Leftovers(path) {
		u.planRemoval(left)
	}
	if ours(path) {
		u.planRemoval(path)
	}
}

func (u *uninstall) planRemoval(path string) {
	command := "rm "
	if info, err := os.Lstat(path); err == nil && info.IsDir() {
		command = "rm -r "
	}
	u.step(command+path, func() error { return os.RemoveAll(path) })
}

// placeIn is where the configuration in file calls our plugin.
func placeIn(file string) cni.Place {
	content, err := os.ReadFile(file)
	if err != nil {
		return cni.Nowhere
	}
	return cni.PlaceIn(content)
}

// isFairlead reports whether file is this program, of whatever version.
func isFairlead(file string) bool {
	theirs, err := buildinfo.ReadFile(file)
	return err == nil && theirs.Main.Path == "fairlead.dev/fairlead"
}
