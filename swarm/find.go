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
)

// How peers are chosen.
const (
	// doors is how many hosts of a site fetch a snapshot from elsewhere; the others fetch it from
	// them and from each other. Each octet so comes to a site about that many times at most. Two:
	// one that dies or is slow is not waited for.
	doors = 2
	// roots is how many doors fetch from publishers; the other doors fetch from doors. A
	// publisher so sends each octet about that many times at most, whatever the number of sites.
	// Doors that get less than pace.fair while roots are slow let as many more be roots after each
	// pace.term, so that the whole fleet does not wait for a slow line; at most maxRoots, so that
	// in a fleet whose lines are all slow the publisher's is not left to everybody.
	roots, maxRoots = 2, 8
	// maxNear and maxFar bound the peers of the own and of other sites that are named to the library
	// at a time; Config.MaxPeers bounds connections. A swarm needs few to be well mixed: ln of ten
	// thousand is 9.
	maxNear = 24
	maxFar  = 8
	// maxBuckets is how many of tree.SwarmBuckets are read at most to find doors, where they have
	// fewPeers or more; all are when there are few peers.
	maxBuckets = 16
	fewPeers   = 256
	// maxRead bounds what is looked at of one listing.
	maxRead = 4096
	// maxPause is between two listings of a fetch that goes on.
	maxPause = 10 * time.Second
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
	j.hurry(now)
	door := j.isDoor(near)
	j.beDoor(door)
	if first && door { // the other doors are to be known when the roots are found
		j.pause, j.fresh = j.settle(), true
		j.add(sample(near, maxNear), nil)
		return
	}
	if j.fresh {
		j.pause, j.fresh = j.pace.list, false
	}
	var far, seeds []tree.SwarmPeer
	root := false
	if door || stuck {
		far, root = j.elsewhere(ctx, door)
	}
	if root || stuck {
		if seeds, err = j.list(ctx, tree.SwarmSeeds(j.deps.Dataset)); err == nil {
			seeds = sample(seeds, maxFar)
		}
	}
	if !stuck {
		j.part(j.far, door)
		j.part(j.seeds, root)
	}
	j.add(sample(near, maxNear), nil)
	j.add(far, j.far)
	j.add(seeds, j.seeds)
	if len(near) > 0 && !door && !stuck {
		// Somebody of the site fetches from elsewhere: this is looked at again.
		j.pause = j.pace.patience
	} else {
		j.pause = min(2*j.pause, maxPause, j.pace.term/3)
	}
	j.nobody = len(near) == 0 && len(far) == 0 && len(seeds) == 0
	j.deps.Log.Debug("peers found", "site", j.cfg.Site, "near", len(near), "far", len(far), "door", door)
}

// isDoor tells whether this host is a door: of its site's peers that have something of the
// snapshot, itself among them, the first by a hash, so that all come to the same without a word,
// and another snapshot has others.
func (j *job) isDoor(near []tree.SwarmPeer) bool {
	id, first := j.ref.ID.String(), 0
	own := weight(j.ref.ID, j.deps.Name)
	for _, p := range near {
		if slices.ContainsFunc(p.Have, func(h tree.SwarmHave) bool { return h.ID == id }) && weight(j.ref.ID, p.Name) < own {
			first++
		}
	}
	return first < doors
}

// beDoor tells the others.
func (j *job) beDoor(is bool) {
	j.mu.Lock()
	news := is != (j.door == j.ref.ID)
	if news {
		j.door = snapshot.ID{}
		if is {
			j.door = j.ref.ID
		}
	}
	j.mu.Unlock()
	if news {
		j.update()
	}
}

// part leaves those to whom connections were made for a place that this host has no more.
func (j *job) part(from map[netip.AddrPort]bool, still bool) {
	if still {
		return
	}
	for at := range from {
		j.gate.part(j.deps.Dataset, at)
		delete(from, at)
	}
}

// hurry lets more doors be roots when this host has had less than is fair for a while.
func (j *job) hurry(now time.Time) {
	if now.Sub(j.since) < j.pace.term {
		return
	}
	fair := j.pace.fair
	for _, bound := range []int64{j.cfg.Up, j.cfg.Down} {
		if bound > 0 {
			fair = min(fair, bound/2) // others' lines are like this one
		}
	}
	if float64(j.best-j.had) < float64(fair)*now.Sub(j.since).Seconds() {
		j.roots = min(j.roots+roots, maxRoots)
	}
	j.since, j.had = now, j.best
}

// elsewhere are some doors of other sites, and whether this one is among the roots: the first
// in an order that is everybody's. The peers of all sites are spread evenly over buckets, which are
// read in that order.
func (j *job) elsewhere(ctx context.Context, door bool) (out []tree.SwarmPeer, root bool) {
	id := j.ref.ID.String()
	read, found := 0, 0
	for i := range tree.SwarmBuckets {
		if i >= maxBuckets && read >= fewPeers || len(out) >= maxFar && found >= j.roots {
			break
		}
		bucket := (int(j.ref.ID[0]) + i) % tree.SwarmBuckets
		some, err := j.list(ctx, tree.SwarmBucketPrefix(j.deps.Dataset, bucket))
		if err != nil {
			break
		}
		read += len(some)
		some = slices.DeleteFunc(some, func(p tree.SwarmPeer) bool { return p.Door != id })
		if door && bucket == tree.SwarmBucket(j.deps.Name) {
			some = append(some, tree.SwarmPeer{Name: j.deps.Name, Site: j.cfg.Site})
		}
		slices.SortFunc(some, func(a, b tree.SwarmPeer) int {
			return cmp.Compare(weight(j.ref.ID, a.Name), weight(j.ref.ID, b.Name))
		})
		for _, p := range some {
			root = root || found < j.roots && p.Name == j.deps.Name
			found++
			if p.Site != j.cfg.Site && len(out) < maxFar {
				out = append(out, p)
			}
		}
	}
	// Where too few are known, whoever looks is one: better once too often than nobody.
	return out, root || door && found < j.roots
}

// weight orders peers by a hash of what they fetch.
func weight(id snapshot.ID, name string) string {
	sum := sha256.Sum256(append(id[:], name...))
	return string(sum[:])
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

// add tells the library of peers, and notes in as, unless it is nil, where they are.
func (j *job) add(peers []tree.SwarmPeer, as map[netip.AddrPort]bool) {
	var infos []torrent.PeerInfo
	for _, p := range peers {
		at, err := netip.ParseAddrPort(p.Address)
		if err != nil {
			continue
		}
		if info, ok := j.gate.peer(j.deps.Dataset, at); ok {
			infos = append(infos, info)
			if as != nil {
				as[at] = true
			}
		}
	}
	j.torrent.AddPeers(infos)
}

// sample is n of all, or all.
func sample(all []tree.SwarmPeer, n int) []tree.SwarmPeer {
	all = slices.Clone(all)
	rand.Shuffle(len(all), func(i, k int) { all[i], all[k] = all[k], all[i] })
	return all[:min(max(n, 0), len(all))]
}
