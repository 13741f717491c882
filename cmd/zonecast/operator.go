package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/internal/operator"
	"github.com/zonecast/zonecast/service"
	"github.com/zonecast/zonecast/snapshot"
)

// keygenOptions are those of `operator keygen`.
type keygenOptions struct {
	Out string `option:"out" help:"file of the private key, which is made; the public one lies beside it as FILE.pub"`
}

// Validate implements the kit's check.
func (o *keygenOptions) Validate() error {
	if o.Out == "" {
		return service.Invalid("out", "the file to write, such as ~/.zonecast/alice.key")
	}
	return nil
}

func newOperator() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "operator",
		Short: "make keys of those who may act",
		Long:  `operator makes the keys with which people sign what they do. Where operators are given (--control-operators FILE), only they may act.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return misused(cmd, fmt.Errorf("there is no command %q", cmd.CommandPath()+" "+args[0]))
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(newKeygen())
	return cmd
}

func newKeygen() *cobra.Command {
	var o keygenOptions
	cmd := &cobra.Command{
		Use:   "keygen NAME --out FILE",
		Short: "make an operator's key",
		Long: `keygen makes a key and prints the line of the operators' file that lets its owner act: the name, the public key, and, when they are added, the rights
(override, freeze, rollback, hold, expect, import, config, vip; joined by commas). Commands that act take the private key with --key.`,
		Example: `  zonecast operator keygen alice --out alice.key >> operators
  zonecast up --control-operators operators
  zonecast freeze --reason "look first" --author alice --key alice.key`,
		Args: exactArgs("NAME"),
	}
	declare(cmd, "", &o)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := load(cmd); err != nil {
			return err
		}
		if _, err := operator.Line(args[0], nil); err != nil {
			return misused(cmd, err)
		}
		if _, err := os.Lstat(o.Out); !errors.Is(err, fs.ErrNotExist) {
			return hinted{fmt.Errorf("%s is there already, or cannot be looked at", o.Out), "a key is never written over: choose another file"}
		}
		key, err := snapshot.LoadOrCreateKey(o.Out)
		if err != nil {
			return err
		}
		line, err := operator.Line(args[0], key.Public().(ed25519.PublicKey))
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), line)
		return err
	}
	return cmd
}
