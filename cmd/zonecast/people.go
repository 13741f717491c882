package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/direct"
	"github.com/zonecast/zonecast/internal/operator"
	"github.com/zonecast/zonecast/snapshot"
)

// What a person does in an emergency. All of it is noted: `zonecast audit`.

// doneView is what an action did, as JSON.
type doneView struct {
	ID   string   `json:"id"`
	Text []string `json:"text"`
	arrival
}

// done prints what an action did and waits for it when that is asked.
func (s *session) done(ctx context.Context, o changeOptions, kind string, began time.Time, d *controlapi.Done) error {
	if s.JSON {
		return s.finishAs(ctx, o, kind, d.ID, began, d.Change, nil, func(a arrival) any { return doneView{d.ID, d.Text, a} })
	}
	for i, line := range d.Text {
		if i > 0 {
			line = s.paint(yellow, "note:") + " " + plain(line)
		} else {
			line = plain(line)
		}
		fmt.Fprintln(s.out, line)
	}
	return s.finish(ctx, o, kind, d.ID, began, d.Change, nil)
}

// doer says who does what, signed when there is a key.
func (s *session) doer(ctx context.Context, o changeOptions, act operator.Act) (*controlapi.Doer, error) {
	by := &controlapi.Doer{Author: o.Author, Reason: o.Reason}
	if o.Key == "" {
		return by, nil
	}
	key, err := snapshot.LoadPrivateKey(o.Key)
	if err != nil {
		return nil, hinted{err, "`zonecast operator keygen` makes a key"}
	}
	dataset := s.Dataset
	if dataset == "" { // the first one's, unless --dataset says otherwise
		st, err := s.Control.Status(ctx)
		if err != nil {
			return nil, err
		}
		if len(st.Datasets) > 0 {
			dataset = st.Datasets[0].Name
		}
	}
	by.SignedAct, err = operator.Sign(key, o.Author, act.Action, dataset, act.Args, time.Now())
	return by, err
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
		`set answers NAME TYPE with the records given, each one argument, until the time of --for is over. An override of the same name and type is replaced.
With --direct it is handed to hosts without the store, signed by an operator (--key): for when nothing else works. They hold it for at most 24h, say so everywhere,
and hand it in when the store is back.`,
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
			by, err := s.doer(ctx, change, operator.OverrideSet(r.Owner, r.Type, r.TTL, r.Rdata, length.Milliseconds(), whole, change.Reason))
			if err != nil {
				return err
			}
			d, err := s.Control.SetOverride(ctx, r, length.Milliseconds(), whole, by)
			if err != nil {
				return err
			}
			return s.done(ctx, change, "override", began, d)
		})
	cmd.Flags().DurationVar(&length, "for", 0, "how long it holds, 1s to 720h")
	cmd.Flags().Int64Var(&ttl, "ttl", 60, "TTL in seconds: how long resolvers keep it, also after its end")
	cmd.Flags().BoolVar(&whole, "whole-name", false, "also hide the other types of the name where a CNAME is on one side")
	change.declareSigned(cmd)
	var glass glassOptions
	glass.declare(cmd, func(cmd *cobra.Command, args []string) error {
		return glass.act(cmd, change, setDirect(args, ttl, length, whole, change.Reason))
	})
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
	cmd := clientCommand("list", "show the overrides in force", "list shows every override: what it says, until when, who set it, why, and what it hides.",
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
	var glass glassOptions
	glass.declare(cmd, func(cmd *cobra.Command, _ []string) error { return glass.show(cmd, http.MethodGet, nil) })
	return cmd
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
			by, err := s.doer(ctx, change, operator.OverrideClear(args[0], change.Reason))
			if err != nil {
				return err
			}
			d, err := s.Control.ClearOverride(ctx, args[0], by)
			if err != nil {
				return err
			}
			return s.done(ctx, change, "override", began, d)
		})
	change.declareSigned(cmd)
	var glass glassOptions
	glass.declare(cmd, func(cmd *cobra.Command, args []string) error {
		return glass.act(cmd, change, direct.Clear(args[0], change.Reason))
	})
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
	var versions bool
	cmd := clientCommand("audit", "show what people did, and why", `audit shows who did what, when, why and from where, oldest first. Nothing of it is ever taken out. With --versions it shows every
version that changed content beside it, and whose claims made it, as far back as --presenter-audit keeps them.`,
		exactArgs(), func(ctx context.Context, s *session, args []string) error {
			views := []auditView{}
			from := int64(0)
			if since > 0 {
				from = time.Now().Add(-since).UnixMilli()
			}
			for after := ""; ; {
				page, err := s.Control.Audit(ctx, from, after, 0, versions)
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
	cmd.Flags().BoolVar(&versions, "versions", false, "show the versions, too")
	return cmd
}

func utc(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04:05Z") }

// versionView is a version as JSON.
type versionView struct {
	Version     int64       `json:"version"`
	Time        int64       `json:"time_ms"`
	Created     int64       `json:"created"`
	Replaced    int64       `json:"replaced"`
	Removed     int64       `json:"removed"`
	Keys        []string    `json:"keys"`
	Causes      []causeView `json:"causes"`
	OtherCauses int64       `json:"other_causes,omitempty"`
	Pinned      int64       `json:"pinned,omitempty"`
}

// causeView is whose claims changed, and who brought them.
type causeView struct {
	Source   string `json:"source"`
	Author   string `json:"author,omitempty"`
	Reason   string `json:"reason,omitempty"`
	Revision string `json:"revision,omitempty"`
	Released string `json:"released,omitempty"`
}

func newHistory() *cobra.Command {
	var limit int32
	cmd := clientCommand("history", "show the versions that changed content", "history shows the newest versions first: when, how much changed, and whose claims did. `diff` shows what, `rollback` goes back.",
		exactArgs(), func(ctx context.Context, s *session, args []string) error {
			h, err := s.Control.History(ctx, limit)
			if err != nil {
				return err
			}
			views := []versionView{}
			for _, x := range h.Versions {
				causes := []causeView{}
				for _, c := range x.Causes {
					causes = append(causes, causeView{c.Source, c.Author, c.Reason, c.Revision, c.Released})
				}
				views = append(views, versionView{x.Version, x.TimeMs, x.Created, x.Replaced, x.Removed, append([]string{}, x.Keys...), causes, x.OtherCauses, x.Pinned})
			}
			v := map[string]any{"versions": views, "kept": h.Kept, "oldest": h.Oldest}
			return s.print(v, func(w io.Writer) {
				t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
				fmt.Fprintln(t, "VERSION\tTIME\tCREATED\tREPLACED\tREMOVED\tSOURCES")
				for _, x := range views {
					var sources []string
					for _, c := range x.Causes {
						sources = append(sources, c.Source)
					}
					text := strings.Join(sources, " ")
					if x.OtherCauses > 0 {
						text += fmt.Sprintf(" and %d more", x.OtherCauses)
					}
					if x.Pinned > 0 {
						text += fmt.Sprintf(" (pinned at version %d)", x.Pinned)
					}
					fmt.Fprintf(t, "%d\t%s\t%d\t%d\t%d\t%s\n", x.Version, utc(x.Time), x.Created, x.Replaced, x.Removed, plain(text))
				}
				t.Flush()
				if n := h.Kept - int64(len(views)); n > 0 {
					fmt.Fprintf(w, "%d more, the oldest is %d (--limit)\n", n, h.Oldest)
				}
			})
		})
	cmd.Flags().Int32Var(&limit, "limit", 20, "how many versions, 1 to 10000")
	return cmd
}

// versionArgs reads from least to most version numbers.
func versionArgs(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return misused(cmd, fmt.Errorf("%s takes %s, found %q", cmd.CommandPath(), strings.TrimPrefix(cmd.Use, cmd.Name()+" "), args))
		}
		for _, a := range args {
			if _, err := strconv.ParseInt(a, 10, 64); err != nil {
				return misused(cmd, fmt.Errorf("%q is no version, expected a number", a))
			}
		}
		return nil
	}
}

func number(args []string, i int) int64 {
	if i >= len(args) {
		return 0
	}
	n, _ := strconv.ParseInt(args[i], 10, 64) // checked by versionArgs
	return n
}

func newDiff() *cobra.Command {
	var limit int32
	cmd := clientCommand("diff V1 [V2]", "show what differs between two versions", "diff shows what was otherwise at version V1 than at V2, or than now: lines with - are of V1, those with + of V2.",
		versionArgs(1, 2), func(ctx context.Context, s *session, args []string) error {
			d, err := s.Control.Diff(ctx, number(args, 0), number(args, 1), limit)
			if err != nil {
				return err
			}
			type line struct {
				Before *recordView `json:"before,omitempty"`
				After  *recordView `json:"after,omitempty"`
			}
			first := func(r []*controlapi.RecordSet) *recordView {
				if len(r) == 0 {
					return nil
				}
				v := viewRecord(r[0])
				return &v
			}
			lines := []line{}
			for _, x := range d.Differences {
				lines = append(lines, line{first(x.Before), first(x.After)})
			}
			v := map[string]any{"differences": lines, "created": d.Created, "replaced": d.Replaced, "removed": d.Removed, "effect": viewEffect(d.Effect)}
			return s.print(v, func(w io.Writer) {
				show := func(sign, color string, r *recordView) {
					if r == nil {
						return
					}
					for _, rd := range r.Rdata {
						fmt.Fprintln(w, s.paint(color, fmt.Sprintf("%s %s\t%d\tIN\t%s\t%s", sign, r.Owner, r.TTL, r.Type, rd)))
					}
				}
				for _, l := range lines {
					show("-", red, l.Before)
					show("+", green, l.After)
				}
				if n := d.Created + d.Replaced + d.Removed - int64(len(lines)); n > 0 {
					fmt.Fprintf(w, "and %d more (--limit)\n", n)
				}
				fmt.Fprintf(w, "%d RRsets created, %d replaced, %d removed\n", d.Created, d.Replaced, d.Removed)
				writeEffect(w, "", viewEffect(d.Effect))
			})
		})
	cmd.Flags().Int32Var(&limit, "limit", 1000, "how many RRsets are shown, 1 to 10000")
	return cmd
}

func newRollback() *cobra.Command {
	var change changeOptions
	cmd := clientCommand("rollback V", "publish an earlier version's content again, and hold it",
		`rollback publishes the content of version V as a new version and pins the dataset there: what robots and files change waits, overrides pass, until
"zonecast release". "zonecast diff V" shows beforehand what goes back.`,
		func(cmd *cobra.Command, args []string) error {
			if change.Reason == "" {
				return misused(cmd, fmt.Errorf("--reason is missing: those who come after you will ask"))
			}
			return versionArgs(1, 1)(cmd, args)
		}, func(ctx context.Context, s *session, args []string) error {
			began := time.Now()
			by, err := s.doer(ctx, change, operator.Rollback(number(args, 0), change.Reason))
			if err != nil {
				return err
			}
			d, err := s.Control.Rollback(ctx, number(args, 0), by)
			if err != nil {
				return err
			}
			return s.made(ctx, change, began, d)
		})
	change.declareSigned(cmd)
	return cmd
}

// withReason is a command that changes something and has to say why.
func withReason(use, short, long string, args cobra.PositionalArgs, declare func(cmd *cobra.Command), do func(ctx context.Context, s *session, change changeOptions, args []string) error) *cobra.Command {
	var change changeOptions
	cmd := clientCommand(use, short, long, func(cmd *cobra.Command, a []string) error {
		if change.Reason == "" {
			return misused(cmd, fmt.Errorf("--reason is missing: those who come after you will ask"))
		}
		return args(cmd, a)
	}, func(ctx context.Context, s *session, a []string) error { return do(ctx, s, change, a) })
	if declare != nil {
		declare(cmd)
	}
	change.declareSigned(cmd)
	return cmd
}

// made is done for what becomes a version of its own.
func (s *session) made(ctx context.Context, o changeOptions, began time.Time, d *controlapi.Done) error {
	if !d.Change.Changed { // there is no version to wait for
		late := timeoutError{errors.New(d.ID + " is noted, but no presenter has made it yet")}
		o.Wait = false
		return errors.Join(late, s.done(ctx, o, "version", began, d))
	}
	return s.done(ctx, o, "version", began, d)
}
