package main

import (
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/internal/refused"
	"github.com/zonecast/zonecast/snapshot/journal"
)

func newHost() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "host",
		Short: "look at a host, on that host: what is wrong with it, what it keeps",
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return misused(cmd, fmt.Errorf("there is no command %q", cmd.CommandPath()+" "+args[0]))
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(newHostRefused(), newHostDoctor(), newHostOptions(), newHostExec())
	return cmd
}

func newHostRefused() *cobra.Command {
	var asJSON bool
	var show string
	cmd := &cobra.Command{
		Use: "refused JOURNAL", Short: "what the agent of a journal refused, and why",
		Long: `refused lists what lies in JOURNAL.refused, oldest first: what the agent did not believe, from where it came, and the file that has it: one line of
JSON and the octets as they came. The newest 64 are kept, 16 MiB at most. --show writes the octets of one to standard output.`,
		Example: `  zonecast host refused /var/lib/zonecast/journal`,
		Args:    exactArgs("JOURNAL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := os.Stat(args[0]); err != nil {
				return hinted{err, "JOURNAL is the directory of --agent-journal"}
			}
			all, err := refused.List(journal.System(), refused.Dir(args[0]))
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if show != "" {
				for _, e := range all {
					if e.File == show {
						_, err := w.Write(e.Evidence)
						return err
					}
				}
				return fmt.Errorf("there is no %s", show)
			}
			if asJSON {
				if all == nil {
					all = []refused.Entry{}
				}
				return json.NewEncoder(w).Encode(all)
			}
			for _, e := range all {
				damaged := ""
				if e.Damaged {
					damaged = " (the file is not whole)"
				}
				fmt.Fprintf(w, "%s  %s from %s, version %d: %s\n  %s, %s%s\n", e.When().UTC().Format(time.RFC3339), plain(e.Kind), plain(e.Way), e.Version, plain(e.Why), e.File, count(e.Size, "octet"), damaged)
			}
			_, err = fmt.Fprintf(w, "%s refused\n", count(len(all), "thing"))
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON and nothing else")
	cmd.Flags().StringVar(&show, "show", "", "write what this file has of it to standard output")
	return cmd
}
