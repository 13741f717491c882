package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/swarm"
)

// swarmStage is the part that a publisher or a host has in the swarm.
type swarmStage struct{ swarm.Config }

func (s *swarmStage) declare(cmd *cobra.Command) {
	s.Config = swarm.DefaultConfig()
	declare(cmd, "swarm", &s.Config)
}

// add gives nil when there is to be no swarm.
func (s *swarmStage) add(n *node, deps swarm.Deps) (*swarm.Swarm, error) {
	if s.Listen == "" {
		return nil, nil
	}
	deps.Store, deps.Metrics, deps.Fallback = n.store, n.metrics("host", deps.Name), n.fetcher
	if deps.Log == nil {
		deps.Log = n.log
	}
	sw, err := swarm.New(s.Config, deps)
	if err != nil {
		return nil, inTheWay("--swarm-listen", s.Listen, err)
	}
	n.add("swarm", sw.Run)
	n.mux.HandleFunc("GET /swarm", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(sw.Status()) // the client is gone when it does not work
	})
	return sw, nil
}

func newSwarm() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "swarm",
		Short: "who has what of the newest snapshot",
		Long:  `swarm tells how snapshots travel between hosts.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return misused(cmd, fmt.Errorf("there is no command %q", cmd.CommandPath()+" "+args[0]))
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(newSwarmStatus(), newSwarmFetch())
	return cmd
}

func newSwarmStatus() *cobra.Command {
	var o keyStoreOptions
	cmd := &cobra.Command{
		Use: "status", Short: "how much each host has", Args: exactArgs(),
		Long: `status reads from the store where the newest snapshot is: each publisher and each host of the swarm, its site, and how much of it it has. A host that
followed by deltas needs no snapshot and has none. One that joins shows how far it is. Without --dataset it is of each dataset that has a swarm, one after the
other; as JSON each is an object on a line.`,
		Example: `  zonecast swarm status --store etcd://192.0.2.10:2379`,
	}
	withStore(cmd, &o, func(ctx context.Context, st store.Store, _ []string) error {
		all := []string{o.Dataset}
		if !cmd.Flags().Changed("dataset") {
			others, err := swarm.Datasets(ctx, st)
			if err != nil {
				return err
			}
			if len(others) > 0 {
				all = others
			}
		}
		for _, dataset := range all {
			v, err := swarm.Read(ctx, st, dataset)
			if err == nil && o.JSON {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(v)
			} else if err == nil {
				err = writeSwarm(cmd.OutOrStdout(), v)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	return cmd
}

// writeSwarm is a View for people.
func writeSwarm(w io.Writer, v swarm.View) error {
	switch {
	case v.Snapshot == "":
		fmt.Fprintf(w, "dataset %s  no snapshot is offered\n", plain(v.Dataset))
	case v.Torrent == "":
		fmt.Fprintf(w, "dataset %s  snapshot %.12s of version %d, %d octets, from URLs alone\n", plain(v.Dataset), v.Snapshot, v.Version, v.Size)
	default:
		fmt.Fprintf(w, "dataset %s  snapshot %.12s of version %d, %d octets, torrent %s\n", plain(v.Dataset), v.Snapshot, v.Version, v.Size, plain(v.Torrent))
	}
	whole, part := 0, 0
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  NAME\tSITE\tADDRESS\tHAS\t")
	for _, p := range v.Peers {
		has := "-"
		switch {
		case v.Size > 0 && p.Have == v.Size:
			has = "all"
			whole++
		case p.Have > 0:
			const width = 20
			full := int(p.Have * width / v.Size)
			has = fmt.Sprintf("[%s%s] %d %%", strings.Repeat("#", full), strings.Repeat(".", width-full), p.Have*100/v.Size)
			part++
		}
		role := ""
		if p.Publisher {
			role = "publisher"
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\n", plain(p.Name), plain(p.Site), plain(p.Address), has, role)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%s, %d with all of it, %d with some\n", count(len(v.Peers), "peer"), whole, part)
	return err
}
