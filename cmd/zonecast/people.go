package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
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

func newRelease() *cobra.Command {
	var change changeOptions
	cmd := clientCommand("release [ID]", "let go of what rollback holds, or let a held change through",
		`release ends what rollback began: what robots, files and people claim by now is published. With the ID of a hold it lets that change through instead
("zonecast holds" shows what it would do).`,
		func(cmd *cobra.Command, args []string) error {
			if change.Reason == "" {
				return misused(cmd, fmt.Errorf("--reason is missing: those who come after you will ask"))
			}
			if len(args) > 1 {
				return misused(cmd, fmt.Errorf("%s takes [ID], found %q", cmd.CommandPath(), args))
			}
			return nil
		}, func(ctx context.Context, s *session, args []string) error {
			if len(args) == 1 {
				return s.decide(ctx, change, args[0], "release")
			}
			began := time.Now()
			by, err := s.doer(ctx, change, operator.Release(change.Reason))
			if err != nil {
				return err
			}
			d, err := s.Control.ReleasePin(ctx, by)
			if err != nil {
				return err
			}
			return s.made(ctx, change, began, d)
		})
	change.declareSigned(cmd)
	return cmd
}

func (s *session) decide(ctx context.Context, change changeOptions, id, decision string) error {
	began := time.Now()
	by, err := s.doer(ctx, change, operator.Decide(id, decision, change.Reason))
	if err != nil {
		return err
	}
	d, err := s.Control.Decide(ctx, id, decision, by)
	if err != nil {
		return err
	}
	return s.done(ctx, change, "override", began, d)
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

func newDrop() *cobra.Command {
	return withReason("drop ID", "keep a held change out", "drop keeps a held change out. Its source stays as it was until it claims something else, which is judged then.",
		exactArgs("ID"), nil, func(ctx context.Context, s *session, change changeOptions, args []string) error {
			return s.decide(ctx, change, args[0], "drop")
		})
}

func newFreeze() *cobra.Command {
	var source string
	return withReason("freeze", "stop the changes of robots and files",
		`freeze keeps what a source has published as it is: what it claims meanwhile waits, and is judged when it is thawed. Without --source that is every source;
overrides pass always.`,
		exactArgs(), func(cmd *cobra.Command) {
			cmd.Flags().StringVar(&source, "source", "", "the source, such as rule/address, or a kind, such as rule/*; empty means all of the dataset")
		}, func(ctx context.Context, s *session, change changeOptions, args []string) error {
			began := time.Now()
			by, err := s.doer(ctx, change, operator.Freeze(source, change.Reason))
			if err != nil {
				return err
			}
			d, err := s.Control.Freeze(ctx, source, by)
			if err != nil {
				return err
			}
			return s.done(ctx, change, "override", began, d)
		})
}

func newThaw() *cobra.Command {
	return withReason("thaw ID", "let frozen sources go on", "thaw ends a freeze: what the sources claim by now is judged, and published when it is let through.",
		exactArgs("ID"), nil, func(ctx context.Context, s *session, change changeOptions, args []string) error {
			began := time.Now()
			by, err := s.doer(ctx, change, operator.Thaw(args[0], change.Reason))
			if err != nil {
				return err
			}
			d, err := s.Control.Thaw(ctx, args[0], by)
			if err != nil {
				return err
			}
			return s.done(ctx, change, "override", began, d)
		})
}

// holdView is a hold as JSON.
type holdView struct {
	ID       string     `json:"id"`
	Source   string     `json:"source"`
	Since    int64      `json:"since_ms"`
	Why      []string   `json:"why"`
	Created  int64      `json:"created"`
	Replaced int64      `json:"replaced"`
	Removed  int64      `json:"removed"`
	Decision string     `json:"decision,omitempty"`
	Effect   effectView `json:"effect"`
}

// effectView is what a change would do to the live traffic, as JSON; sampled 0 means that
// nothing is known, and unknown says why.
type effectView struct {
	Sampled  int64         `json:"sampled"`
	Hosts    int32         `json:"hosts"`
	Since    int64         `json:"since_ms,omitempty"`
	Until    int64         `json:"until_ms,omitempty"`
	Queries  int64         `json:"queries"`
	Share    float64       `json:"share"`
	Low      float64       `json:"low"`
	High     float64       `json:"high"`
	Kinds    []kindView    `json:"kinds"`
	Examples []exampleView `json:"examples"`
	More     int64         `json:"more"`
	NoName   float64       `json:"no_name"`
	Unknown  string        `json:"unknown,omitempty"`
}

type kindView struct {
	Kind  string  `json:"kind"`
	Share float64 `json:"share"`
}

type exampleView struct {
	Name   string  `json:"name"`
	Type   string  `json:"type"`
	Share  float64 `json:"share"`
	Kind   string  `json:"kind"`
	Before string  `json:"before"`
	After  string  `json:"after"`
}

func viewEffect(e *controlapi.Effect) effectView {
	v := effectView{Kinds: []kindView{}, Examples: []exampleView{}}
	if e == nil {
		v.Unknown = "the server does not say"
		return v
	}
	v.Sampled, v.Hosts, v.Since, v.Until, v.Queries = e.Sampled, e.Hosts, e.SinceMs, e.UntilMs, e.Queries
	v.Share, v.Low, v.High, v.More, v.NoName, v.Unknown = e.Share, e.Low, e.High, e.More, e.NoName, e.Unknown
	for _, k := range e.Kinds {
		v.Kinds = append(v.Kinds, kindView{k.Kind, k.Share})
	}
	for _, x := range e.Examples {
		v.Examples = append(v.Examples, exampleView{x.Name, x.Type, x.Share, x.Kind, x.Before, x.After})
	}
	return v
}

// kindWords say what an answer becomes.
var kindWords = map[string]string{
	"nxdomain": "the name would be gone", "nodata": "nothing of the type would be there", "refused": "it would be in no zone", "failure": "it would fail",
	"referral": "other servers would be named", "alias": "it would lead elsewhere", "answer": "there would be an answer", "data": "other data",
	"ttl": "nothing but the TTL",
}

// percent says a share with two digits.
func percent(share float64) string {
	if share == 0 {
		return "0 %"
	}
	return strconv.FormatFloat(100*share, 'f', max(0, 1-int(math.Floor(math.Log10(max(100*share, 0.001))))), 64) + " %"
}

// writeEffect says it in words.
func writeEffect(w io.Writer, indent string, v effectView) {
	if v.Sampled == 0 {
		fmt.Fprintf(w, "%swhat it does to live queries is not known: %s\n", indent, plain(v.Unknown))
		return
	}
	from := fmt.Sprintf("%d sampled on %s in %s", v.Sampled, count(int(v.Hosts), "host"), (time.Duration(v.Until-v.Since) * time.Millisecond).Round(time.Second))
	if v.Share == 0 {
		fmt.Fprintf(w, "%sno live query (%s) would be answered otherwise: it is less than %s of them\n", indent, from, percent(v.High))
	} else {
		fmt.Fprintf(w, "%s%s of live queries (%s; %s to %s) would be answered otherwise", indent, percent(v.Share), from, percent(v.Low), percent(v.High))
		for i, k := range v.Kinds {
			sign := ","
			if i == 0 {
				sign = ":"
			}
			words := kindWords[k.Kind]
			if words == "" {
				words = plain(k.Kind)
			}
			if len(v.Kinds) > 1 {
				words += " " + percent(k.Share)
			}
			fmt.Fprintf(w, "%s %s", sign, words)
		}
		fmt.Fprintln(w)
	}
	for _, x := range v.Examples {
		fmt.Fprintf(w, "%s  %s %s %s -> %s %s\n", indent, plain(x.Name), plain(x.Type), plain(x.Before), plain(x.After), percent(x.Share))
	}
	if v.More > 0 {
		fmt.Fprintf(w, "%s  and %s more\n", indent, count(int(v.More), "question"))
	}
	if v.NoName >= 0.5 {
		fmt.Fprintf(w, "%s  %s of live queries ask for names that are not there: that makes the shares of others small\n", indent, percent(v.NoName))
	}
}

// freezeView is a freeze as JSON.
type freezeView struct {
	ID     string `json:"id"`
	Source string `json:"source,omitempty"`
	Since  int64  `json:"since_ms"`
	Author string `json:"author"`
	Reason string `json:"reason"`
	From   string `json:"from,omitempty"`
}

func newHolds() *cobra.Command {
	return clientCommand("holds", "show the changes that wait for a person", "holds shows every change that a guard holds: whose, what it would do, and why it waits.",
		exactArgs(), func(ctx context.Context, s *session, args []string) error {
			views, err := s.holds(ctx)
			if err != nil {
				return err
			}
			return s.print(views, func(w io.Writer) {
				if len(views) == 0 {
					fmt.Fprintln(w, "nothing is held")
				}
				s.writeHolds(w, views)
			})
		})
}

func (s *session) holds(ctx context.Context) ([]holdView, error) {
	list, err := s.Control.Holds(ctx)
	views := []holdView{}
	for _, h := range list {
		views = append(views, holdView{h.ID, h.Source, h.SinceMs, append([]string{}, h.Why...), h.Created, h.Replaced, h.Removed, h.Decision, viewEffect(h.Effect)})
	}
	return views, err
}

func (s *session) writeHolds(w io.Writer, views []holdView) {
	for _, h := range views {
		state := "waits"
		switch h.Decision {
		case "drop":
			state = "dropped"
		case "release":
			state = "released"
		}
		fmt.Fprintf(w, "%s  %s %s since %s: %d RRsets created, %d replaced, %d removed\n",
			s.paint(red, "hold "+h.ID), plain(h.Source), state, utc(h.Since), h.Created, h.Replaced, h.Removed)
		for _, y := range h.Why {
			fmt.Fprintf(w, "  %s\n", plain(y))
		}
		writeEffect(w, "  ", h.Effect)
		if h.Decision == "" {
			fmt.Fprintf(w, "  `zonecast release %s` lets it through, `zonecast drop %s` keeps it out\n", h.ID, h.ID)
		}
	}
}

func (s *session) freezes(ctx context.Context) ([]freezeView, error) {
	list, err := s.Control.Freezes(ctx)
	views := []freezeView{}
	for _, f := range list {
		views = append(views, freezeView{f.ID, f.Source, f.SinceMs, f.Author, f.Reason, f.FromAddress})
	}
	return views, err
}

func (s *session) writeFreezes(w io.Writer, views []freezeView) {
	for _, f := range views {
		what := f.Source
		if what == "" {
			what = "everything but overrides"
		}
		fmt.Fprintf(w, "%s  %s since %s by %s: %s (`zonecast thaw %s`)\n", s.paint(red, "freeze "+f.ID), plain(what), utc(f.Since), plain(f.Author), plain(f.Reason), plain(f.ID))
	}
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
