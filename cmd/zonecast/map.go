package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

// newMap is `zonecast map`: who is served by which PoP.
func newMap() *cobra.Command {
	cmd := &cobra.Command{
		Use: "map WHAT", Short: "maps: which PoP serves whom",
		Long: `map takes maps that you have, computes maps, compares them, and tells what would be. A map takes the prefix of a client to a PoP, and says who takes over.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return misused(cmd, errors.New("map takes what to do"))
			}
			return misused(cmd, fmt.Errorf("map cannot %q", args[0]))
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	cmd.AddCommand(newMapList(), newMapImport(), newMapExport(), newMapExplain(), newMapCompute(), newMapDiff(), newMapWhatIf(), newMapAlgorithms(), newMapWhy(), newMapPicture())
	return cmd
}
