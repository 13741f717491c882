package main

import (
	"net/netip"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/announcer"
	"github.com/zonecast/zonecast/announcer/bgp"
	"github.com/zonecast/zonecast/announcer/exabgp"
	"github.com/zonecast/zonecast/announcer/loopback"
)

// announcerStage announces a host's VIPs.
type announcerStage struct {
	announcer.Config
	cmd *cobra.Command // on which it is declared
}

func (s *announcerStage) declare(cmd *cobra.Command) {
	s.Config, s.cmd = announcer.DefaultConfig(), cmd
	declare(cmd, "announcer", &s.Config)
}

func (s *announcerStage) add(n *node) error {
	log := n.log.With("host", s.Host)
	a, err := announcer.New(s.Config, announcer.Deps{
		Store: n.store, Log: log, Metrics: n.metrics("host", s.Host),
		Speaker: func(changed func()) (announcer.Speaker, error) {
			if s.Speaker == announcer.SpeakerExaBGP {
				cfg := exabgp.Config{AS: s.BGP.AS, NextHop4: s.BGP.NextHop4, NextHop6: s.BGP.NextHop6}
				return exabgp.New(cfg, s.cmd.InOrStdin(), s.cmd.OutOrStdout(), log, changed), nil
			}
			return bgp.New(s.BGP, log, changed)
		},
		Addresses: func(device string, addrs, ours []netip.Addr) ([]netip.Addr, func() error, error) {
			a, err := loopback.Add(device, addrs, ours)
			if err != nil {
				return nil, nil, err
			}
			return a.Added(), a.Remove, nil
		},
	})
	if err != nil {
		return err
	}
	n.mux.Handle("GET /vips", a.Handler())
	n.add("announcer", a.Run)
	n.warn("announcer", a.Troubles)
	return nil
}
