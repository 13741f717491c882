package swarm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// View is who has what of a dataset's newest snapshot, as the store says.
type View struct {
	Dataset string `json:"dataset"`
	// Snapshot is the id of the newest snapshot, empty when none is offered; Version,
	// Size in octets and Torrent are its.
	Snapshot string `json:"snapshot"`
	Version  uint64 `json:"version"`
	Size     int64  `json:"size"`
	Torrent  string `json:"torrent"`
	// Peers are publishers first, then hosts by site and name.
	Peers []Peer `json:"peers"`
}

// Peer is one of them.
type Peer struct {
	Name      string `json:"name"`
	Site      string `json:"site"`
	Address   string `json:"address"`
	Publisher bool   `json:"publisher"`
	Have      int64  `json:"have"`  // octets of the newest snapshot, verified or on the way
	Other     int    `json:"other"` // other snapshots of which it has something
}

// Datasets are those that have a swarm, by name.
func Datasets(ctx context.Context, st store.Store) ([]string, error) {
	nodes, _, err := st.List(ctx, tree.Swarm)
	if err != nil {
		return nil, fmt.Errorf("read swarms: %w", err)
	}
	var all []string
	for _, n := range nodes {
		name, _, _ := strings.Cut(strings.TrimPrefix(n.Path, tree.Swarm), "/")
		if len(all) == 0 || all[len(all)-1] != name {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}

// Read reads a View. It costs the store one answer of about 300 octets a host: people ask
// for it, no program does.
func Read(ctx context.Context, st store.Store, dataset string) (View, error) {
	v := View{Dataset: dataset, Peers: []Peer{}}
	fail := func(err error) (View, error) { return v, fmt.Errorf("read swarm of %s: %w", dataset, err) }
	whole, err := follow.ReadManifest(ctx, st, dataset)
	switch {
	case errors.Is(err, store.ErrNotFound):
	case err != nil:
		return fail(err)
	default:
		m, err := snapshot.DecodeManifest(whole) // for people: hosts verify it
		if err != nil {
			return fail(err)
		}
		if s := m.Snapshot; !s.ID.IsZero() {
			v.Snapshot, v.Version, v.Size, v.Torrent = s.ID.String(), s.Version, s.Size, s.Torrent
		}
	}
	for _, prefix := range []string{tree.SwarmSeeds(dataset), tree.SwarmSites(dataset)} {
		nodes, _, err := st.List(ctx, prefix)
		if err != nil {
			return fail(err)
		}
		for _, n := range nodes {
			var p tree.SwarmPeer
			if tree.Decode(n, &p) != nil {
				continue // of a later program
			}
			one := Peer{Name: p.Name, Site: p.Site, Address: p.Address, Publisher: prefix == tree.SwarmSeeds(dataset)}
			if _, err := netip.ParseAddrPort(p.Address); err != nil {
				continue
			}
			for _, h := range p.Have {
				if h.ID == v.Snapshot {
					one.Have = max(0, min(h.Have, v.Size))
				} else {
					one.Other++
				}
			}
			v.Peers = append(v.Peers, one)
		}
	}
	slices.SortStableFunc(v.Peers, func(a, b Peer) int {
		if a.Publisher != b.Publisher {
			if a.Publisher {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.Site, b.Site), cmp.Compare(a.Name, b.Name))
	})
	return v, nil
}
