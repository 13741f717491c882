package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/api/registryapi"
	"github.com/zonecast/zonecast/control"
	"github.com/zonecast/zonecast/reconcile"
)

func newRegister() *cobra.Command {
	var reg registryapi.Registration
	var change changeOptions
	var lease time.Duration
	var options []string
	cmd := clientCommand("register NAME --address A[,A…] --role ROLE --site SITE", "put a server into the fleet",
		`register puts a server into the fleet: its A, AAAA and PTR records, and its part in the service name <role>.<domain>.
Registering again with the same data changes nothing, with other data replaces all of it.`,
		exactArgs("NAME"), func(ctx context.Context, s *session, args []string) error {
			began := time.Now()
			reg.Name = args[0]
			reg.Options = map[string]string{}
			for _, o := range options {
				k, v, ok := strings.Cut(o, "=")
				if !ok {
					return usageError{fmt.Errorf("--option %q has no value, expected KEY=VALUE such as port=443", o)}
				}
				reg.Options[k] = v
			}
			reg.LeaseMs, reg.Author, reg.Reason = lease.Milliseconds(), change.Author, change.Reason
			ch, err := s.Registry.RegisterServer(ctx, &reg)
			if err != nil {
				return err
			}
			return s.finish(ctx, change, "servers", "register "+reg.Name, began, ch, func() ([]unanswered, error) { return s.losses(ctx, &reg) })
		})
	f := cmd.Flags()
	f.StringSliceVar(&reg.Addresses, "address", nil, "IPv4 and IPv6 addresses, comma separated or repeated")
	f.StringVar(&reg.Role, "role", "", "what the server does; the first label of its service name")
	f.StringVar(&reg.Site, "site", "", "where it is")
	f.StringVar(&reg.Cluster, "cluster", "", "its cluster (default <role>.<site>)")
	f.Int32Var(&reg.TTL, "ttl", 0, "TTL of its records in seconds (default 3600)")
	f.StringArrayVar(&options, "option", nil, "KEY=VALUE, repeated; known: port, protocol, priority, weight")
	f.DurationVar(&lease, "lease", 0, "the server leaves the DNS when it is not renewed for so long (default: never)")
	change.declare(cmd)
	return cmd
}

// unanswered is a record that a change made and that no host answers, as JSON.
type unanswered struct {
	recordView
	Why string `json:"why"`
}

// losses are the records of a server that are not what the world sees: a person who
// registers a server wants to know at once. What explains claims may be a moment
// behind the hosts that answer them, so it is asked until it knows the addresses.
// When all of its records are lost, that is an error.
func (s *session) losses(ctx context.Context, reg *registryapi.Registration) ([]unanswered, error) {
	const again = 5 * time.Millisecond
	for {
		x, err := s.Control.Why(ctx, reg.Name, "")
		if err != nil {
			return nil, err
		}
		var lost []unanswered
		claimed := map[netip.Addr]bool{}
		answered := false
		for _, c := range x.Claims {
			if !strings.HasPrefix(c.Source, "rule/address") {
				continue
			}
			for _, d := range c.Rdata {
				if a, err := netip.ParseAddr(d); err == nil {
					claimed[a] = true
				}
			}
			if c.Verdict == string(reconcile.Loses) || c.Verdict == string(control.Waits) {
				lost = append(lost, unanswered{recordView{c.Owner, c.Type, c.TTL, c.Location, c.Rdata}, c.Rule})
			} else {
				answered = true
			}
		}
		known := !slices.ContainsFunc(reg.Addresses, func(text string) bool {
			a, err := netip.ParseAddr(text)
			return err == nil && !claimed[a]
		})
		switch {
		case known && !answered:
			return lost, hinted{
				fmt.Errorf("register %s is stored, but no record of it is answered: %s", reg.Name, lost[0].Why),
				fmt.Sprintf("`zonecast why %s` shows what holds there; a name in no zone needs a zone file; `zonecast deregister %s` takes it back", reg.Name, reg.Name),
			}
		case known:
			return lost, nil
		}
		if err := pause(ctx, again); err != nil {
			return nil, hinted{fmt.Errorf("register %s: answered, but its claims are not explained yet: %w", reg.Name, err), "`zonecast why " + reg.Name + "` shows them later"}
		}
	}
}

func newDeregister() *cobra.Command {
	var change changeOptions
	cmd := clientCommand("deregister NAME", "take a server out of the fleet", "deregister takes a server out of the fleet; what rules made of it goes with it.",
		exactArgs("NAME"), func(ctx context.Context, s *session, args []string) error {
			began := time.Now()
			ch, err := s.Registry.DeregisterServer(ctx, args[0], change.Author, change.Reason)
			if err != nil {
				return err
			}
			return s.finish(ctx, change, "servers", "deregister "+args[0], began, ch, nil)
		})
	change.declare(cmd)
	return cmd
}

func newRenew() *cobra.Command {
	return clientCommand("renew NAME", "renew the lease of a server", "renew keeps a server that was registered with --lease for another such time.",
		exactArgs("NAME"), func(ctx context.Context, s *session, args []string) error {
			l, err := s.Registry.Renew(ctx, args[0])
			if err != nil {
				return err
			}
			v := struct {
				Expires int64 `json:"expires_ms"`
				TTL     int64 `json:"ttl_ms"`
			}{l.ExpiresMs, l.TTLMs}
			return s.print(v, func(w io.Writer) {
				fmt.Fprintf(w, "renew %s: good until %s\n", args[0], time.UnixMilli(l.ExpiresMs).Format(time.RFC3339))
			})
		})
}

// serverView is a server as JSON.
type serverView struct {
	Name      string            `json:"name"`
	Addresses []string          `json:"addresses"`
	Role      string            `json:"role"`
	Site      string            `json:"site"`
	Cluster   string            `json:"cluster"`
	TTL       int32             `json:"ttl"`
	Options   map[string]string `json:"options,omitempty"`
	Origin    string            `json:"origin"`
	Author    string            `json:"author,omitempty"`
	Reason    string            `json:"reason,omitempty"`
	Time      int64             `json:"time_ms"`
}

func newServers() *cobra.Command {
	filter := registryapi.NewFilter()
	cmd := clientCommand("servers", "list the servers of the fleet", "servers lists the servers of the fleet by cluster and name.", exactArgs(), func(ctx context.Context, s *session, _ []string) error {
		all := []serverView{}
		for after := ""; ; {
			page, err := s.Registry.ListServers(ctx, after, 0, filter)
			if err != nil {
				return err
			}
			for _, v := range page.Servers {
				all = append(all, serverView{v.Name, v.Addresses, v.Role, v.Site, v.Cluster, v.TTL, v.Options, v.Origin, v.Author, v.Reason, v.TimeMs})
			}
			if after = page.NextAfter; after == "" {
				break
			}
		}
		return s.print(map[string]any{"servers": all}, func(w io.Writer) {
			t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
			fmt.Fprintln(t, "NAME\tCLUSTER\tADDRESSES\tORIGIN")
			for _, v := range all {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", v.Name, v.Cluster, strings.Join(v.Addresses, ","), v.Origin)
			}
			t.Flush()
			fmt.Fprintln(w, s.paint(faint, count(len(all), "server")))
		})
	})
	cmd.Flags().StringVar(&filter.Role, "role", "", "only servers of this role")
	cmd.Flags().StringVar(&filter.Site, "site", "", "only servers at this site")
	cmd.Flags().StringVar(&filter.Cluster, "cluster", "", "only servers of this cluster")
	return cmd
}
