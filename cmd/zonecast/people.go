package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/api/controlapi"
)

// What a person does in an emergency. All of it is noted: `zonecast audit`.

// doneView is what an action did, as JSON.
type doneView struct {
	ID   string   `json:"id"`
	Text []string `json:"text"`
	arrival
}

// done prints what an action did and waits for it when that is asked.
func (s *session) done(ctx context.Context, o changeOptions, began time.Time, d *controlapi.Done) error {
	if s.JSON {
		return s.finishAs(ctx, o, "claims", d.ID, began, d.Change, nil, func(a arrival) any { return doneView{d.ID, d.Text, a} })
	}
	for i, line := range d.Text {
		if i > 0 {
			line = s.paint(yellow, "note:") + " " + plain(line)
		} else {
			line = plain(line)
		}
		fmt.Fprintln(s.out, line)
	}
	return s.finish(ctx, o, "claims", d.ID, began, d.Change, nil)
}

func doer(o changeOptions) *controlapi.Doer {
	return &controlapi.Doer{Author: o.Author, Reason: o.Reason}
}

func newOverride() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "override",
		Short: "put an RRset above everything for a time",
		Long: `override puts an RRset of a person's above whatever robots, zone files and configuration claim. It goes out at once, ends by itself, and
is shown wherever the name is (why, status). What is to last belongs into a zone file or the configuration.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return misused(cmd, fmt.Errorf("there is no command %q", cmd.CommandPath()+" "+args[0]))
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(newOverrideSet(), newOverrideList(), newOverrideClear())
	return cmd
}

func newOverrideSet() *cobra.Command {
	var change changeOptions
	var length time.Duration
	var ttl int64
	var whole bool
	cmd := clientCommand("set NAME TYPE RDATA…", "put an RRset above everything",
		`set answers NAME TYPE with the records given, each one argument, until the time of --for is over. An override of the same name and type is replaced.`,
		func(cmd *cobra.Command, args []string) error {
			if len(args) < 3 {
				return misused(cmd, fmt.Errorf("%s takes NAME TYPE RDATA…, found %q", cmd.CommandPath(), args))
			}
			if length <= 0 {
				return misused(cmd, fmt.Errorf("--for is missing: how long the override is to hold, such as 2h"))
			}
			if change.Reason == "" {
				return misused(cmd, fmt.Errorf("--reason is missing: those who come after you will ask"))
			}
			return nil
		}, func(ctx context.Context, s *session, args []string) error {
			began := time.Now()
			r := &controlapi.RecordSet{Owner: args[0], Type: strings.ToUpper(args[1]), TTL: ttl, Rdata: args[2:]}
			d, err := s.Control.SetOverride(ctx, r, length.Milliseconds(), whole, doer(change))
			if err != nil {
				return err
			}
			return s.done(ctx, change, began, d)
		})
	cmd.Flags().DurationVar(&length, "for", 0, "how long it holds, 1s to 720h")
	cmd.Flags().Int64Var(&ttl, "ttl", 60, "TTL in seconds: how long resolvers keep it, also after its end")
	cmd.Flags().BoolVar(&whole, "whole-name", false, "also hide the other types of the name where a CNAME is on one side")
	change.declare(cmd)
	return cmd
}

// overrideView is an override as JSON.
type overrideView struct {
	ID string `json:"id"`
	recordView
	Set    int64    `json:"set_ms"`
	Until  int64    `json:"until_ms"`
	Author string   `json:"author"`
	Reason string   `json:"reason"`
	From   string   `json:"from,omitempty"`
	Hides  []string `json:"hides"`
}

func newOverrideList() *cobra.Command {
	return clientCommand("list", "show the overrides in force", "list shows every override: what it says, until when, who set it, why, and what it hides.",
		exactArgs(), func(ctx context.Context, s *session, args []string) error {
			views, err := s.overrides(ctx)
			if err != nil {
				return err
			}
			return s.print(views, func(w io.Writer) {
				if len(views) == 0 {
					fmt.Fprintln(w, "no overrides")
				}
				s.writeOverrides(w, views)
			})
		})
}

func (s *session) overrides(ctx context.Context) ([]overrideView, error) {
	list, err := s.Control.Overrides(ctx)
	views := []overrideView{}
	for _, o := range list {
		views = append(views, overrideView{o.ID, viewRecord(o.Record), o.SetMs, o.UntilMs, o.Author, o.Reason, o.FromAddress, append([]string{}, o.Hides...)})
	}
	return views, err
}

func (s *session) writeOverrides(w io.Writer, views []overrideView) {
	for _, o := range views {
		fmt.Fprintf(w, "%s  %s %d %s %s\n", s.paint(yellow, "override "+o.ID), o.Owner, o.TTL, o.Type, plain(strings.Join(o.Rdata, " | ")))
		left := time.Until(time.UnixMilli(o.Until)).Round(time.Second)
		fmt.Fprintf(w, "  until %s (%v), by %s: %s\n", utc(o.Until), left, plain(o.Author), plain(o.Reason))
		for _, h := range o.Hides {
			fmt.Fprintf(w, "  hides %s\n", plain(h))
		}
	}
}

func newOverrideClear() *cobra.Command {
	var change changeOptions
	cmd := clientCommand("clear ID", "end an override now", "clear ends an override before its time.",
		func(cmd *cobra.Command, args []string) error {
			if change.Reason == "" {
				return misused(cmd, fmt.Errorf("--reason is missing: those who come after you will ask"))
			}
			return exactArgs("ID")(cmd, args)
		}, func(ctx context.Context, s *session, args []string) error {
			began := time.Now()
			d, err := s.Control.ClearOverride(ctx, args[0], doer(change))
			if err != nil {
				return err
			}
			return s.done(ctx, change, began, d)
		})
	change.declare(cmd)
	return cmd
}

// auditView is an entry as JSON.
type auditView struct {
	Time    int64  `json:"time_ms"`
	Action  string `json:"action"`
	Subject string `json:"subject"`
	Text    string `json:"text"`
	Author  string `json:"author"`
	Reason  string `json:"reason,omitempty"`
	From    string `json:"from,omitempty"`
}

func newAudit() *cobra.Command {
	var since time.Duration
	cmd := clientCommand("audit", "show what people did, and why", "audit shows who did what, when, why and from where, oldest first. Nothing is ever taken out of it.",
		exactArgs(), func(ctx context.Context, s *session, args []string) error {
			views := []auditView{}
			from := int64(0)
			if since > 0 {
				from = time.Now().Add(-since).UnixMilli()
			}
			for after := ""; ; {
				page, err := s.Control.Audit(ctx, from, after, 0)
				if err != nil {
					return err
				}
				for _, e := range page.Entries {
					views = append(views, auditView{e.TimeMs, e.Action, e.Subject, e.Text, e.Author, e.Reason, e.FromAddress})
				}
				if after = page.NextAfter; after == "" {
					break
				}
			}
			return s.print(views, func(w io.Writer) {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				defer t.Flush()
				for _, e := range views {
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", utc(e.Time), plain(e.Author), plain(e.Action), plain(e.Text))
					if e.Reason != "" {
						fmt.Fprintf(t, "\t\t\treason: %s\n", plain(e.Reason))
					}
				}
			})
		})
	cmd.Flags().DurationVar(&since, "since", 0, "only what happened in this time until now; 0 means all")
	return cmd
}

func utc(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04:05Z") }
