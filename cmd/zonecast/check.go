package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/snapshot"
)

// checkOptions are those of `check`.
type checkOptions struct {
	JSON bool `option:"json" help:"print JSON and nothing else"`
}

// checkView is what a snapshot file holds, as JSON.
type checkView struct {
	File    string `json:"file"`
	ID      string `json:"id"`
	Size    int64  `json:"size"` // octets
	Dataset string `json:"dataset"`
	Content uint64 `json:"content"`
	RRsets  int    `json:"rrsets"`
	Zones   int    `json:"zones"`
	Digest  string `json:"digest"`
}

func newCheck() *cobra.Command {
	var o checkOptions
	cmd := &cobra.Command{
		Use:   "check FILE…",
		Short: "check snapshot files",
		Long: `check reads snapshot files whole and says what is in them, or where they are wrong. They lie in DIR/snapshots of up,
and as snapshot files in the journal directories of hosts.`,
		Example: `  zonecast check .zonecast/snapshots/*.snapshot`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return misused(cmd, errors.New("check takes at least one file"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := load(cmd); err != nil {
				return err
			}
			var failed error
			damaged := false
			for _, path := range args {
				r, err := snapshot.Check(path)
				switch {
				case err != nil:
					failed = errors.Join(failed, err)
					damaged = damaged || !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrPermission)
				case o.JSON:
					v := checkView{path, r.ID.String(), r.Size, r.Dataset, r.Content, r.RRsets, r.Zones, r.Digest.String()}
					failed = errors.Join(failed, json.NewEncoder(cmd.OutOrStdout()).Encode(v))
				default:
					fmt.Fprint(cmd.OutOrStdout(), r)
				}
			}
			if damaged {
				return hinted{failed, "hosts set a damaged journal aside and fetch the data anew by themselves"}
			}
			return failed
		},
	}
	declare(cmd, "", &o)
	return cmd
}
