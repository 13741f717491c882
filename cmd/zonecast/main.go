// Command zonecast runs the DNS of a large fleet, from intent to answer: every
// service is `zonecast run NAME`, every tool a subcommand.
//
// Invariant: the exit status is 0 when what was asked is done, 1 when it is not,
// 2 when the question was wrong, 3 when waiting for it timed out; with --json
// standard output is JSON and nothing else.
//
// In: flags, ZONECAST_* variables, a TOML file. Out: stages wired together, and
// tables or JSON for people and programs.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/apache/thrift/lib/go/thrift"
	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/configurator/compile"
	"github.com/zonecast/zonecast/internal/sandbox"
	"github.com/zonecast/zonecast/rules/script"
	"github.com/zonecast/zonecast/service"
)

// version is set by the Makefile through the linker.
var version = "devel"

// Exit statuses.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitTimeout = 3
	exitChanges = 4 // of `config plan`: something would change
)

func main() {
	sandbox.Main(sandboxed())
	// How often generated code looks whether the caller of a running call is still
	// there: calls that wait (watch, wait) would each wake up 200 times a second.
	thrift.ServerConnectivityCheckInterval = 100 * time.Millisecond
	os.Exit(service.Main(func(ctx context.Context) int {
		return run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	}))
}

// sandboxed are the parts of the program that run in a child process of their own.
func sandboxed() map[string]func() (sandbox.Handler, error) {
	return map[string]func() (sandbox.Handler, error){compile.SandboxName: compile.SandboxHandler, script.SandboxName: script.SandboxHandler}
}

// run is main without the process: the tests call it.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot(stdin, stdout, stderr)
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	if !errors.As(err, new(changesError)) {
		fmt.Fprintf(stderr, "zonecast: %v\n", err)
	}
	var h hinted
	if errors.As(err, &h) && h.hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", h.hint)
	}
	var s interface{ exitStatus() int }
	if errors.As(err, &s) {
		return s.exitStatus()
	}
	return exitFailed
}

func newRoot(stdin io.Reader, stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use:   "zonecast",
		Short: "the DNS of a large fleet, from intent to answer",
		Long: `zonecast runs the DNS of a large fleet, from intent to answer: servers register, rules turn the fleet into records,
people's zone files are reconciled with them, every DNS host receives all of it, verified, and proves how fresh it is.

  zonecast up --dir DIR --zones DIR --fleet FILE.jsonl     everything on this machine
  zonecast register web1.example.net --address 192.0.2.1 --role web --site ams --wait
  zonecast why web1.example.net`,
		Version:       version,
		SilenceErrors: true,
		// Typing errors up to this Levenshtein distance get a suggestion.
		SuggestionsMinimumDistance: 2,
		SilenceUsage:               true,
	}
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(misused)
	root.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return nil
		}
		err := fmt.Errorf("there is no command %q", args[0])
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			return usageError{hinted{err, "did you mean " + strings.Join(near, " or ") + "? `zonecast --help` lists them all"}}
		}
		return misused(cmd, err)
	}
	root.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	root.AddGroup(&cobra.Group{ID: "run", Title: "Run it:"}, &cobra.Group{ID: "change", Title: "Change the fleet:"}, &cobra.Group{ID: "people", Title: "Be in control:"}, &cobra.Group{ID: "ask", Title: "Ask what is and why:"})
	for id, cmds := range map[string][]*cobra.Command{
		"run":    {newUp(), newRun(), newServe(), newBuild(), newCheck(), newStore(), newHost(), newMan()},
		"change": {newRegister(), newDeregister(), newRenew(), newImport(), newRules()},
		"people": {newOverride(), newFreeze(), newThaw(), newHistory(), newDiff(), newRollback(), newHolds(), newRelease(), newDrop(), newRings(), newGroups(), newExpect(), newPop(), newVIP(), newAudit(), newOperator(), newKey()},
		"ask":    {newServers(), newGet(), newWhy(), newMap(), newConflicts(), newStatus(), newSwarm(), newBeacon(), newExport(), newConfig(), newBench()},
	} {
		for _, c := range cmds {
			c.GroupID = id
			root.AddCommand(c)
		}
	}
	service.ConfigFlag(root)
	service.Explain(root, os.LookupEnv)
	return root
}

// usageError is the user's mistake in the command itself.
type usageError struct{ error }

func (usageError) exitStatus() int { return exitUsage }
func (e usageError) Unwrap() error { return e.error }

// timeoutError is a --wait that ended without the change being everywhere.
type timeoutError struct{ error }

func (timeoutError) exitStatus() int { return exitTimeout }
func (e timeoutError) Unwrap() error { return e.error }

// hinted is an error with advice on the next line.
type hinted struct {
	error
	hint string
}

func (h hinted) Unwrap() error { return h.error }

// misused is err as the user's mistake in a call of cmd.
func misused(cmd *cobra.Command, err error) error {
	return usageError{hinted{err, "see " + cmd.CommandPath() + " --help"}}
}

// atLeastArgs takes one argument or more, each of what name says.
func atLeastArgs(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return misused(cmd, fmt.Errorf("%s takes one %s or more, found none", cmd.CommandPath(), name))
		}
		return nil
	}
}

// exactArgs is cobra.ExactArgs as a usage error that names what is missing.
func exactArgs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		if len(names) == 0 {
			return misused(cmd, fmt.Errorf("%s takes no argument, found %q", cmd.CommandPath(), args))
		}
		return misused(cmd, fmt.Errorf("%s takes %s, found %q", cmd.CommandPath(), strings.Join(names, " "), args))
	}
}
