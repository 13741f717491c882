package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/operator"
)

// Expectations: mass changes that a person announces.

// expectView is an expectation as JSON.
type expectView struct {
	ID        string     `json:"id"`
	Zone      string     `json:"zone,omitempty"`
	Source    string     `json:"source,omitempty"`
	Announced expectLeft `json:"announced"`
	Left      expectLeft `json:"left"`
	Set       int64      `json:"set_ms"`
	Until     int64      `json:"until_ms"`
	Author    string     `json:"author"`
	Reason    string     `json:"reason"`
	From      string     `json:"from,omitempty"`
}

// expectLeft are RRsets.
type expectLeft struct {
	Removals     int64 `json:"removals"`
	Replacements int64 `json:"replacements"`
	Creations    int64 `json:"creations"`
}

func newExpect() *cobra.Command {
	var e controlapi.Expectation
	var length time.Duration
	cmd := withReason("expect", "announce a mass change, so that guards let it through",
		`expect announces that a zone, a source or both will change in numbers: as many RRsets as are given are not counted by guards, until the time of --for is over.
What is held already is looked at again. A zone emptied, a protected name gone and all addresses of a service replaced are held nevertheless.`,
		func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) > 0:
				return misused(cmd, fmt.Errorf("there is no command %q", cmd.CommandPath()+" "+args[0]))
			case e.Zone == "" && e.Source == "":
				return misused(cmd, errors.New("--zone or --source is missing: what is to change"))
			case e.Removals+e.Replacements+e.Creations == 0:
				return misused(cmd, errors.New("--removals, --replacements or --creations is missing: how many RRsets"))
			case length <= 0:
				return misused(cmd, errors.New("--for is missing: until when it is to be expected, such as 1h"))
			}
			return nil
		}, func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&e.Zone, "zone", "", "the zone that changes; empty means all of the source's")
			cmd.Flags().StringVar(&e.Source, "source", "", "the source that changes it, such as rule/address; empty means any")
			cmd.Flags().Int64Var(&e.Removals, "removals", 0, "RRsets that will go")
			cmd.Flags().Int64Var(&e.Replacements, "replacements", 0, "RRsets that will be replaced")
			cmd.Flags().Int64Var(&e.Creations, "creations", 0, "RRsets that will come")
			cmd.Flags().DurationVar(&length, "for", 0, "how long it is expected, 1s to 168h")
		}, func(ctx context.Context, s *session, change changeOptions, args []string) error {
			began := time.Now()
			by, err := s.doer(ctx, change, operator.Expect(e.Zone, e.Source, e.Removals, e.Replacements, e.Creations, length.Milliseconds(), change.Reason))
			if err != nil {
				return err
			}
			d, err := s.Control.Expect(ctx, &e, length.Milliseconds(), by)
			if err != nil {
				return err
			}
			return s.done(ctx, change, "override", began, d)
		})
	cmd.AddCommand(newExpectList(), newExpectClear())
	return cmd
}

func newExpectList() *cobra.Command {
	return clientCommand("list", "show what is expected", "list shows the expectations, what is left of each, and when it ends.",
		exactArgs(), func(ctx context.Context, s *session, args []string) error {
			list, err := s.Control.Expectations(ctx)
			if err != nil {
				return err
			}
			views := []expectView{}
			for _, e := range list {
				views = append(views, expectView{
					e.ID, e.Zone, e.Source,
					expectLeft{e.Removals, e.Replacements, e.Creations},
					expectLeft{e.LeftRemovals, e.LeftReplacements, e.LeftCreations},
					e.SetMs, e.UntilMs, e.Author, e.Reason, e.FromAddress,
				})
			}
			return s.print(views, func(w io.Writer) {
				if len(views) == 0 {
					fmt.Fprintln(w, "nothing is expected")
				}
				for _, v := range views {
					what := strings.TrimSpace(plain(v.Zone) + " " + plain(v.Source))
					fmt.Fprintf(w, "%s  %s until %s by %s: %s\n", s.paint(yellow, "expectation "+plain(v.ID)), what, utc(v.Until), plain(v.Author), plain(v.Reason))
					for _, n := range []struct {
						what            string
						announced, left int64
					}{
						{"removals", v.Announced.Removals, v.Left.Removals},
						{"replacements", v.Announced.Replacements, v.Left.Replacements},
						{"creations", v.Announced.Creations, v.Left.Creations},
					} {
						if n.announced > 0 {
							fmt.Fprintf(w, "  %d of %d %s are left\n", n.left, n.announced, n.what)
						}
					}
				}
			})
		})
}

func newExpectClear() *cobra.Command {
	return withReason("clear ID", "take an expectation back", "clear takes an expectation back: what comes from now on counts again.",
		exactArgs("ID"), nil, func(ctx context.Context, s *session, change changeOptions, args []string) error {
			began := time.Now()
			by, err := s.doer(ctx, change, operator.Unexpect(args[0], change.Reason))
			if err != nil {
				return err
			}
			d, err := s.Control.Unexpect(ctx, args[0], by)
			if err != nil {
				return err
			}
			return s.done(ctx, change, "override", began, d)
		})
}
