package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/recursor"
	"github.com/zonecast/zonecast/service"
	"github.com/zonecast/zonecast/tinydns"
)

// The stages of a host that drive a server that is somebody else's. They need no store.

// recursorStage drives Unbound.
type recursorStage struct{ recursor.Config }

func (s *recursorStage) declare(cmd *cobra.Command) {
	s.Config = recursor.DefaultConfig()
	declare(cmd, "recursor", &s.Config)
}

func (s *recursorStage) add(n *node) error {
	r, err := recursor.New(s.Config, recursor.Deps{Log: n.log, Metrics: n.svc.Registerer()})
	if err != nil {
		return advised(err)
	}
	n.add("recursor", func(ctx context.Context) error { return advised(r.Run(ctx)) })
	n.warn("recursor", r.Troubles)
	return nil
}

// tinydnsStage answers by tinydns, in the authority's place.
type tinydnsStage struct{ tinydns.Config }

func (s *tinydnsStage) declare(cmd *cobra.Command) {
	s.Config = tinydns.DefaultConfig()
	declare(cmd, "tinydns", &s.Config)
}

func (s *tinydnsStage) add(n *node) error {
	t, err := tinydns.New(s.Config, tinydns.Deps{Log: n.log, Metrics: n.svc.Registerer()})
	if err != nil {
		return advised(err)
	}
	n.svc.Add(service.Task{Name: "tinydns", Run: func(ctx context.Context) error { return advised(t.Run(ctx)) }, Detail: t.Detail})
	n.warn("tinydns", t.Troubles)
	return nil
}

// advised gives an error of a stage that says what to do the hint that the command
// prints.
func advised(err error) error {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return hinted{err, h.Hint()}
	}
	return err
}

// addOffline makes `run name` of a stage that needs no store. A stage that hands over to a
// successor says so by shares.
func addOffline(run *cobra.Command, name, short string, declareStage func(*cobra.Command), add func(*node) error, shares ...func() bool) {
	p := processOptions{LogOptions: defaultLog()}
	cmd := &cobra.Command{Use: name, Short: short, Args: exactArgs()}
	declare(cmd, "", &p)
	declareStage(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := load(cmd); err != nil {
			return err
		}
		for _, does := range shares {
			p.shared = does()
		}
		return runNode(cmd, name, p, nil, add)
	}
	run.AddCommand(cmd)
}
