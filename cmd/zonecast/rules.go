package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/api/registryapi"
	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/internal/dnswire"
	"github.com/zonecast/zonecast/rules/script"
)

func newRules() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rules",
		Short: "try rules written in Starlark",
		Long: `rules tries rules written in Starlark before they are in force. A directory of them is followed by the mutator (--mutator-rules-dir):
NAME.star is the rule rule/NAME; what it defines - server(s), cluster(c), group(g), fleet(f) - makes records of servers.`,
		Example: `  zonecast rules test examples/rules
  zonecast rules run examples/rules --fleet fleet.jsonl --server web1.example.net
  zonecast up --zones zones --fleet fleet.jsonl --mutator-rules-dir examples/rules`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return misused(cmd, fmt.Errorf("there is no command %q", cmd.CommandPath()+" "+args[0]))
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(newRulesTest(), newRulesRun())
	return cmd
}

// rulesTestOptions are those of `rules test`.
type rulesTestOptions struct {
	JSON bool `option:"json" help:"print JSON and nothing else"`
}

// ruleTestView is what came of a test, as JSON.
type ruleTestView struct {
	File   string  `json:"file"`
	Name   string  `json:"name,omitempty"`
	Passed bool    `json:"passed"`
	Error  string  `json:"error,omitempty"`
	Millis float64 `json:"ms"`
}

func newRulesTest() *cobra.Command {
	var o rulesTestOptions
	cmd := &cobra.Command{
		Use:   "test DIR",
		Short: "run the tests beside rules",
		Long: `test compiles every rule of the directory and runs the functions test_* of its *_test.star. They load the rules that they test, make servers with
new_server(name, addresses=[], role=…, site=…), and compare with equal(got, want) and fails(function, text).`,
		Args: exactArgs("DIR"),
	}
	declare(cmd, "", &o)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := load(cmd); err != nil {
			return err
		}
		files := os.DirFS(args[0])
		loaded, err := script.Load(files)
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		tests, err := script.Test(files)
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		views, failed := []ruleTestView{}, 0
		for _, l := range loaded {
			if l.Err != nil {
				views = append(views, ruleTestView{File: l.File, Error: l.Err.Error()})
				failed++
			}
		}
		for _, t := range tests {
			v := ruleTestView{File: t.File, Name: t.Name, Passed: t.Err == nil, Millis: float64(t.Took.Microseconds()) / 1000}
			if t.Err != nil {
				v.Error = t.Err.Error()
				failed++
			}
			views = append(views, v)
		}
		w := cmd.OutOrStdout()
		if o.JSON {
			err = json.NewEncoder(w).Encode(map[string]any{"rules": len(loaded), "failed": failed, "tests": views})
		} else {
			writeTests(w, views, len(loaded), len(tests), failed)
		}
		if err == nil && failed > 0 {
			err = fmt.Errorf("%d of %d failed", failed, len(views))
		}
		return err
	}
	return cmd
}

func writeTests(w io.Writer, views []ruleTestView, rules, tests, failed int) {
	for _, v := range views {
		if !v.Passed {
			fmt.Fprintf(w, "FAIL %s\n  %s\n", strings.TrimSpace(v.File+" "+v.Name), plain(v.Error))
		}
	}
	fmt.Fprintf(w, "%s, %s, %d failed\n", count(rules, "rule"), count(tests, "test"), failed)
}

// rulesRunOptions are those of `rules run`.
type rulesRunOptions struct {
	Server  string        `option:"server" help:"name of the server"`
	Fleet   string        `option:"fleet" help:"fleet file; empty means the servers that are registered"`
	API     string        `option:"api" env:"API" help:"address of the API, for the servers that are registered"`
	Timeout time.Duration `option:"timeout" help:"how long the API may take"`
	JSON    bool          `option:"json" help:"print JSON and nothing else"`

	at apiFinder
}

// ruledView is a record that a rule makes, as JSON.
type ruledView struct {
	Rule string `json:"rule"`
	recordView
	Place string `json:"place,omitempty"`
	Error string `json:"error,omitempty"`
}

func newRulesRun() *cobra.Command {
	c := defaultClientOptions()
	o := rulesRunOptions{API: c.API, Timeout: c.Timeout}
	cmd := &cobra.Command{
		Use:   "run DIR --server NAME",
		Short: "show what rules make of a server",
		Long: `run shows the records that the rules of a directory make of one server, and of the clusters and groups that it is in, each with the line of the rule that
makes it. Nothing is changed.`,
		Args: exactArgs("DIR"),
	}
	declare(cmd, "", &o)
	o.at.declare(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := load(cmd); err != nil {
			return err
		}
		if o.Server == "" {
			return misused(cmd, errors.New("--server is missing: of which server"))
		}
		name, err := fleet.ParseName(o.Server)
		if err != nil {
			return misused(cmd, fmt.Errorf("--server: %w", err))
		}
		servers, err := o.servers(cmd.Context())
		if err != nil {
			return err
		}
		i := slices.IndexFunc(servers, func(s fleet.Server) bool { return s.Name == name })
		if i < 0 {
			return fmt.Errorf("there is no server %s among %d", fleet.ID(name), len(servers))
		}
		views, failed, err := runRules(args[0], servers[i], servers)
		if err != nil {
			return err
		}
		w := cmd.OutOrStdout()
		if o.JSON {
			err = json.NewEncoder(w).Encode(views)
		} else {
			for _, v := range views {
				if v.Error != "" {
					fmt.Fprintf(w, "%s fails: %s\n", v.Rule, plain(v.Error))
				}
				for _, rd := range v.Rdata {
					fmt.Fprintf(w, "%s\t%d\tIN\t%s\t%s\n", v.Owner, v.TTL, v.Type, rd)
				}
				if v.Error == "" {
					fmt.Fprintf(w, "\tby %s at %s\n", v.Rule, plain(v.Place))
				}
			}
		}
		if err == nil && failed > 0 {
			err = fmt.Errorf("%s failed", count(failed, "rule"))
		}
		return err
	}
	return cmd
}

// servers are those of the fleet file, or those that are registered.
func (o *rulesRunOptions) servers(ctx context.Context) ([]fleet.Server, error) {
	if o.Fleet != "" {
		f, err := os.Open(o.Fleet)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return fleet.ParseFleetFile(f, filepath.Base(o.Fleet))
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	c, _, err := o.at.dial(ctx, o.API, "is zonecast running there? `zonecast up` starts it; or give a fleet file with --fleet")
	if err != nil {
		return nil, err
	}
	defer c.Close()
	var all []fleet.Server
	for after := ""; ; {
		page, err := c.Registry.ListServers(ctx, after, 0, registryapi.NewFilter())
		if err != nil {
			return nil, explain(err)
		}
		for _, v := range page.Servers {
			s := fleet.Server{
				Role: v.Role, Site: v.Site, Cluster: v.Cluster, TTL: uint32(v.TTL), Options: v.Options, Origin: v.Origin,
				Author: v.Author, Reason: v.Reason, Time: v.TimeMs,
			}
			if s.Name, err = fleet.ParseName(v.Name); err != nil {
				return nil, err
			}
			for _, text := range v.Addresses {
				a, err := netip.ParseAddr(text)
				if err != nil {
					return nil, err
				}
				s.Addresses = append(s.Addresses, a)
			}
			all = append(all, s.Normal())
		}
		if after = page.NextAfter; after == "" {
			return all, nil
		}
	}
}

// runRules makes the records of the shards that one of the servers is in.
func runRules(dir string, one fleet.Server, servers []fleet.Server) (views []ruledView, failed int, err error) {
	loaded, err := script.Load(os.DirFS(dir))
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", dir, err)
	}
	views = []ruledView{}
	fail := func(l script.Loaded, err error) {
		views = append(views, ruledView{Rule: string(l.Source), Error: err.Error()})
		failed++
	}
	for _, l := range loaded {
		if l.Err != nil {
			fail(l, l.Err)
			continue
		}
		shards, err := l.Rule.Shards(one)
		if err != nil {
			fail(l, err)
		}
		members := map[string][]fleet.Server{}
		for _, s := range servers {
			of, _ := l.Rule.Shards(s) // of the one an error was said; others' are theirs
			for _, shard := range of {
				members[shard] = append(members[shard], s)
			}
		}
		for _, shard := range shards {
			claims, err := l.Rule.Claims(shard, func() []fleet.Server { return members[shard] })
			if err != nil {
				fail(l, err)
				continue
			}
			for _, c := range claims {
				v := ruledView{Rule: string(l.Source), recordView: recordView{Owner: c.Owner.String(), Type: c.Type.String(), TTL: int64(c.TTL)}, Place: c.Place}
				for _, d := range c.Data {
					v.Rdata = append(v.Rdata, dnswire.FormatRdata(c.Type, d))
				}
				views = append(views, v)
			}
		}
	}
	return views, failed, nil
}
