package main

import (
	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/mapper"
)

// mapperStage computes who is served by which PoP.
type mapperStage struct{ mapper.Config }

func (s *mapperStage) declare(cmd *cobra.Command) {
	s.Config = mapper.DefaultConfig()
	declare(cmd, "mapper", &s.Config)
}

func (s *mapperStage) add(n *node) error {
	m, err := mapper.New(s.Config, mapper.Deps{Store: n.store, Log: n.log, Metrics: n.svc.Registerer(), Name: processID()})
	if err != nil {
		return err
	}
	n.add("mapper", m.Run)
	n.mux.Handle("GET /mapper", m.Handler())
	n.warn("mapper", func() []string { return []string{m.Trouble()} })
	return nil
}
