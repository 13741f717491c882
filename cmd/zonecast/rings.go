package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/internal/operator"
)

// ringsView is `rings` as JSON.
type ringsView struct {
	Rings   []ringView `json:"rings"`
	Sources []string   `json:"sources"`
	Large   int64      `json:"large"`
	Trial   *trialView `json:"trial,omitempty"`
	Next    []string   `json:"next"`
}

type ringView struct {
	Name      string   `json:"name"`
	Soak      int64    `json:"soak_ms"`
	Hosts     []string `json:"hosts"`
	Live      []string `json:"live"`
	LiveCount int64    `json:"live_count"`
}

type trialView struct {
	ID         string   `json:"id"`
	Source     string   `json:"source"`
	Since      int64    `json:"since_ms"`
	Until      int64    `json:"until_ms"`
	Created    int64    `json:"created"`
	Replaced   int64    `json:"replaced"`
	Removed    int64    `json:"removed"`
	Author     string   `json:"author,omitempty"`
	Reason     string   `json:"reason,omitempty"`
	Why        string   `json:"why"`
	Ring       string   `json:"ring,omitempty"`
	State      string   `json:"state,omitempty"`
	StateSince int64    `json:"state_since_ms,omitempty"`
	Text       string   `json:"text"`
	Evidence   []string `json:"evidence"`
	Answered   []string `json:"answered"`
	Refused    []string `json:"refused"`
}

func newRings() *cobra.Command {
	cmd := clientCommand("rings", "show what is tried on some hosts before all have it",
		`rings shows the rings of hosts, which change they try, how far it is, and what was found. A change that people made, or a large one, goes from ring to ring
when the presenter has rings (--presenter-trial-rings); it becomes a version after the last one, or is withdrawn and held with the evidence ("zonecast holds").`,
		exactArgs(), func(ctx context.Context, s *session, _ []string) error {
			r, err := s.Control.Rings(ctx)
			if err != nil {
				return err
			}
			v := ringsView{Rings: []ringView{}, Sources: notNil(r.Sources), Large: r.Large, Next: notNil(r.Queued)}
			for _, x := range r.Rings {
				v.Rings = append(v.Rings, ringView{x.Name, x.SoakMs, notNil(x.Hosts), notNil(x.Live), x.LiveCount})
			}
			if t := r.Trial; t != nil {
				v.Trial = &trialView{
					t.ID, t.Source, t.SinceMs, t.UntilMs, t.Created, t.Replaced, t.Removed, t.Author, t.Reason, t.Why, t.Ring, t.State, t.StateSinceMs, t.Text,
					notNil(t.Evidence), notNil(t.Answered), notNil(t.Refused),
				}
			}
			return s.print(v, func(w io.Writer) { writeRings(w, v) })
		})
	cmd.AddCommand(newRingsDecide("pass", "make what is tried a version now", "pass makes a trial a version for all hosts now, whatever its rings say."),
		newRingsDecide("withdraw", "take what is tried back", "withdraw takes a trial from its hosts, which go back to the published version; the change is held (\"zonecast holds\")."))
	return cmd
}

func notNil(all []string) []string {
	if all == nil {
		return []string{}
	}
	return all
}

func newRingsDecide(decision, short, long string) *cobra.Command {
	return withReason(decision+" ID", short, long, exactArgs("ID"), nil, func(ctx context.Context, s *session, change changeOptions, args []string) error {
		began := time.Now()
		by, err := s.doer(ctx, change, operator.DecideTrial(args[0], decision, change.Reason))
		if err != nil {
			return err
		}
		d, err := s.Control.DecideTrial(ctx, args[0], decision, by)
		if err != nil {
			return err
		}
		return s.done(ctx, change, "override", began, d)
	})
}

func writeRings(w io.Writer, v ringsView) {
	if len(v.Rings) == 0 {
		fmt.Fprintln(w, "no rings: every change goes to all hosts at once (--presenter-trial-rings)")
		return
	}
	for i, r := range v.Rings {
		live := strings.Join(r.Live[:min(len(r.Live), 5)], ", ")
		if n := int(r.LiveCount) - min(len(r.Live), 5); n > 0 {
			live += fmt.Sprintf(" and %d more", n)
		}
		if live == "" {
			live = "none"
		}
		mark := " "
		if v.Trial != nil && v.Trial.Ring == r.Name {
			mark = "*"
		}
		fmt.Fprintf(w, "%s %d %s: %s for %s; live: %s\n", mark, i+1, plain(r.Name), plain(strings.Join(r.Hosts, " ")), time.Duration(r.Soak)*time.Millisecond, plain(live))
	}
	what := "changes of " + strings.Join(v.Sources, ", ")
	if v.Large > 0 {
		what += fmt.Sprintf(", and of %d RRsets and more", v.Large)
	}
	fmt.Fprintf(w, "  then all hosts; %s go that way\n", plain(what))
	t := v.Trial
	if t == nil {
		fmt.Fprintln(w, "nothing is tried")
		return
	}
	fmt.Fprintf(w, "trial %s of %s since %s: %d RRsets created, %d replaced, %d removed\n", t.ID, plain(t.Source), utc(t.Since), t.Created, t.Replaced, t.Removed)
	if t.Author != "" || t.Reason != "" {
		fmt.Fprintf(w, "  by %s (%s)\n", plain(t.Author), plain(t.Reason))
	}
	if t.State != "" {
		fmt.Fprintf(w, "  %s to ring %s since %s: %s\n", plain(t.State), plain(t.Ring), utc(t.StateSince), plain(t.Text))
	} else {
		fmt.Fprintf(w, "  %s\n", plain(t.Text))
	}
	for _, e := range t.Evidence {
		fmt.Fprintf(w, "    %s\n", plain(e))
	}
	for _, r := range t.Refused {
		fmt.Fprintf(w, "    not answered by %s\n", plain(r))
	}
	fmt.Fprintf(w, "  it is held at %s when it is not through by then; `zonecast rings pass %s` or `zonecast rings withdraw %s`\n", utc(t.Until), t.ID, t.ID)
	for _, s := range v.Next {
		fmt.Fprintf(w, "then %s\n", plain(s))
	}
}
