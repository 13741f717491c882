package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/internal/storecopy"
)

// storeCopyOptions are those of `store copy`.
type storeCopyOptions struct {
	JSON       bool   `option:"json" help:"print JSON and nothing else"`
	Force      bool   `option:"force" help:"let what is in the target go"`
	FromPrefix string `option:"from-prefix" help:"--store-prefix of the source"`
	ToPrefix   string `option:"to-prefix" help:"--store-prefix of the target"`
	FromAuth   string `option:"from-auth" help:"--store-auth of the source"`
	ToAuth     string `option:"to-auth" help:"--store-auth of the target"`
}

func newStore() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "store",
		Short: "move a store to another engine",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return misused(cmd, fmt.Errorf("there is no command %q", cmd.CommandPath()+" "+args[0]))
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(newStoreCopy())
	return cmd
}

func newStoreCopy() *cobra.Command {
	o, d := storeCopyOptions{}, dirOptions{Dir: defaultDir}
	cmd := &cobra.Command{
		Use:   "copy FROM TO",
		Short: "copy everything from one store to another",
		Long: `copy makes TO have what FROM has, and reads it back. FROM and TO are as --store has them, of whatever engine. Stop what runs on either
before: nodes of running processes are not copied, and a source that changes meanwhile is an error. A target that is not empty is refused, unless
--force says that what it has may go.`,
		Example: `  zonecast store copy embedded --dir /var/lib/zonecast zookeeper://192.0.2.11:2181,192.0.2.12:2181,192.0.2.13:2181/zonecast
  zonecast store copy zookeeper://192.0.2.11:2181/zonecast etcd://192.0.2.21:2379 --from-auth /etc/zonecast/zookeeper`,
		Args: exactArgs("FROM", "TO"),
	}
	declare(cmd, "", &o)
	declare(cmd, "", &d)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := load(cmd); err != nil {
			return err
		}
		return copyStore(cmd, o, d.Dir, args[0], args[1])
	}
	return cmd
}

func copyStore(cmd *cobra.Command, o storeCopyOptions, dir, from, to string) (err error) {
	ctx, log := cmd.Context(), slog.New(slog.DiscardHandler)
	ends := []storeOptions{{Store: from, Prefix: o.FromPrefix, Auth: o.FromAuth}, {Store: to, Prefix: o.ToPrefix, Auth: o.ToAuth}}
	for _, e := range ends {
		en, err := e.engine()
		if err == nil && len(en.proxy.Endpoints) > 0 {
			err = errors.New("a proxy has only what hosts need: copy from the store itself")
		}
		if err != nil {
			return misused(cmd, fmt.Errorf("%q: %w", e.public(), err))
		}
	}
	if ends[0] == ends[1] {
		return misused(cmd, errors.New("FROM and TO are the same"))
	}
	source, err := openNow(ctx, ends[0], dir, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	target, err := openNow(ctx, ends[1], dir, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	bar := newProgress(cmd.ErrOrStderr(), "nodes written")
	rep, err := storecopy.Copy(ctx, source, target, storecopy.Options{Force: o.Force, Progress: bar.set})
	bar.done()
	switch {
	case errors.Is(err, storecopy.ErrNotEmpty):
		return hinted{err, "choose another target, or add --force to let go what it has"}
	case errors.Is(err, storecopy.ErrInUse):
		return hinted{err, "stop every zonecast process on the target"}
	case errors.Is(err, storecopy.ErrMoved):
		return hinted{err, "stop every zonecast process on the source, and copy again with --force"}
	case err != nil:
		return err
	}
	if o.JSON {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(rep)
	}
	if rep.Ephemeral > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "zonecast: %d nodes of processes that run on the source were not copied; what these change from now on is not in the target\n", rep.Ephemeral)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d nodes copied, %d octets; read back and equal\n", rep.Nodes, rep.Bytes)
	return err
}
