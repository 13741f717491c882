package swarm

import (
	"cmp"
	"context"
	"crypto/sha256"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/anacrolix/torrent"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// How peers are chosen.
const (
	// doors is how many hosts of a site fetch a snapshot from elsewhere; the others fetch it from
	// them and from each other. Each octet so comes to a site about that many times at most. Two:
	// one that dies or is slow is not waited for.
	doors = 2
	// maxNear and maxFar bound the peers of the own and of other sites that are connected to. A
	// swarm needs few to be well mixed: ln of ten thousand is 9.
	maxNear = 24
	maxFar  = 8
	// maxBuckets is how many of tree.SwarmBuckets are read at most to find other sites; in a
	// large fleet the first has enough.
	maxBuckets = 16
	// maxRead bounds what is looked at of one listing.
	maxRead = 4096
	// maxPause is between two listings of a fetch that goes on.
	maxPause = 30 * time.Second
)

// findPeers reads peers from the store and tells the library of those to connect to. Who does
// not get on asks elsewhere, whatever its place.
func (j *job) findPeers(ctx context.Context, now time.Time) {
	first := j.listed.IsZero()
	j.listed = now
	near, err := j.list(ctx, tree.SwarmSitePrefix(j.deps.Dataset, j.cfg.Site))
	if err != nil {
		j.without++
		j.deps.Log.Debug("peers cannot be read", "error", err)
		j.nobody = j.without > 1
		return
	}
	stuck := now.Sub(j.moved) >= j.pace.patience
	all := append(slices.Clone(near), tree.SwarmPeer{Name: j.deps.Name})
	door := slices.ContainsFunc(doorsOf(j.ref.ID, all), func(p tree.SwarmPeer) bool { return p.Name == j.deps.Name })
	var far []tree.SwarmPeer
	if door || stuck {
		far = j.elsewhere(ctx)
	}
	pick := append(sample(near, maxNear), far...)
	j.add(pick)
	if len(near) > 0 && len(far) == 0 && !stuck {
		// Somebody of the site fetches from elsewhere: this is looked at again.
		j.pause = j.pace.patience
	} else {
		j.pause = min(2*j.pause, maxPause)
	}
	j.nobody = len(near) == 0 && len(far) == 0
	if first {
		j.deps.Log.Debug("peers found", "site", j.cfg.Site, "near", len(near), "far", len(far), "door", door)
	}
}

// elsewhere are publishers and the doors of some other sites: a host that is none would, once
// connected, fetch from here what its own site has.
func (j *job) elsewhere(ctx context.Context) []tree.SwarmPeer {
	seeds, err := j.list(ctx, tree.SwarmSeeds(j.deps.Dataset))
	if err != nil {
		return nil
	}
	out := sample(seeds, maxFar)
	// The peers of all sites are spread evenly over parts: some are read until enough sites
	// are found.
	var sites []string
	for _, bucket := range rand.Perm(tree.SwarmBuckets)[:maxBuckets] {
		some, err := j.list(ctx, tree.SwarmBucketPrefix(j.deps.Dataset, bucket))
		if err != nil {
			break
		}
		for _, p := range sample(some, len(some)) {
			if p.Site != j.cfg.Site && !slices.Contains(sites, p.Site) && store.CheckPath(tree.SwarmSites("d")+p.Site) == nil && len(sites) < maxFar/doors {
				sites = append(sites, p.Site)
			}
		}
		if len(sites) == maxFar/doors {
			break
		}
	}
	for _, site := range sites {
		peers, err := j.list(ctx, tree.SwarmSitePrefix(j.deps.Dataset, site))
		if err != nil {
			break
		}
		out = append(out, doorsOf(j.ref.ID, peers)...)
	}
	return out
}

// list reads peers below a prefix, without ourselves.
func (j *job) list(ctx context.Context, prefix string) ([]tree.SwarmPeer, error) {
	ctx, cancel := context.WithTimeout(ctx, j.pace.stall/2)
	defer cancel()
	nodes, _, err := j.deps.Store.List(ctx, prefix)
	if err != nil {
		return nil, err
	}
	var out []tree.SwarmPeer
	for _, n := range nodes[:min(len(nodes), maxRead)] {
		var p tree.SwarmPeer
		if err := tree.Decode(n, &p); err != nil || p.Name == j.deps.Name || p.Address == j.self.String() {
			continue // damaged, or this one
		}
		out = append(out, p)
	}
	return out, nil
}

// add tells the library of peers.
func (j *job) add(peers []tree.SwarmPeer) {
	var infos []torrent.PeerInfo
	for _, p := range peers {
		at, err := netip.ParseAddrPort(p.Address)
		if err != nil {
			continue
		}
		if info, ok := j.gate.peer(at); ok {
			infos = append(infos, info)
		}
	}
	j.torrent.AddPeers(infos)
}

// doorsOf are those of a site's peers that fetch a snapshot from elsewhere: the first by a hash,
// so that all come to the same without a word, and another snapshot has others.
func doorsOf(id snapshot.ID, peers []tree.SwarmPeer) []tree.SwarmPeer {
	weight := func(p tree.SwarmPeer) string {
		sum := sha256.Sum256(append(id[:], p.Name...))
		return string(sum[:])
	}
	peers = slices.SortedFunc(slices.Values(peers), func(a, b tree.SwarmPeer) int { return cmp.Compare(weight(a), weight(b)) })
	return peers[:min(doors, len(peers))]
}

// sample is n of all, or all.
func sample(all []tree.SwarmPeer, n int) []tree.SwarmPeer {
	all = slices.Clone(all)
	rand.Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
	return all[:min(max(n, 0), len(all))]
}
