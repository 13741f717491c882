package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/snapshot"
)

func newCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE…",
		Short: "check snapshot files",
		Long:  "check reads snapshot files whole and says what is in them, or where they are wrong.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{errors.New("check takes at least one file")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var failed error
			for _, path := range args {
				r, err := snapshot.Check(path)
				if err != nil {
					failed = errors.Join(failed, fmt.Errorf("%s: %w", path, err))
					continue
				}
				fmt.Fprint(cmd.OutOrStdout(), r)
			}
			if failed != nil && !errors.Is(failed, os.ErrNotExist) {
				return hinted{failed, "hosts set a damaged journal aside and fetch the data anew by themselves"}
			}
			return failed
		},
	}
}
