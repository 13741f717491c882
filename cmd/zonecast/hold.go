package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/internal/operator"
)

// Holds and freezes: what waits for a person.

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
