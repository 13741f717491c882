package tree

import (
	"fmt"
	"slices"

	"github.com/zonecast/zonecast/store"
)

// SwarmSitePrefix is the prefix of a site's peers, with a final slash; SwarmSites that of all
// sites.
func SwarmSitePrefix(dataset, site string) string { return SwarmSites(dataset) + site + "/" }

// SwarmSites: see SwarmSitePrefix.
func SwarmSites(dataset string) string { return Swarm + dataset + "/sites/" }

// SwarmSeeds is the prefix of the publishers among the peers, with a final slash.
func SwarmSeeds(dataset string) string { return Swarm + dataset + "/seeds/" }

// SwarmBuckets is how many parts the peers of all sites are spread over, evenly: who looks for
// some of them reads one part.
const SwarmBuckets = 64

// SwarmBucketPrefix is the prefix of one of these parts, with a final slash.
func SwarmBucketPrefix(dataset string, bucket int) string {
	return fmt.Sprintf("%s%s/any/%02d/", Swarm, dataset, bucket)
}

// SwarmBucket is the part that a peer is in.
func SwarmBucket(name string) int { return bucketOf(name, SwarmBuckets) }

// TorrentPrefix is the prefix of the parts of a snapshot's metainfo, with a final slash: in their
// order, and joined, they are a BEP 3 file.
func TorrentPrefix(dataset, id string) string { return Torrents + dataset + "/" + id + "/" }

// TorrentPath is the path of a part.
func TorrentPath(dataset, id string, n int) string {
	return fmt.Sprintf("%s%06d", TorrentPrefix(dataset, id), n)
}

// MaxTorrent bounds a metainfo, in octets: with a manifest it goes into one transaction.
const MaxTorrent = 10 * store.MaxValue

// TorrentOps puts a metainfo. The values alias it.
func TorrentOps(dataset, id string, metainfo []byte) (ops []store.Op) {
	for part := range slices.Chunk(metainfo, store.MaxValue) {
		ops = append(ops, store.Op{Path: TorrentPath(dataset, id, len(ops)), Value: part})
	}
	return ops
}

// SwarmPeer is where a host or a publisher gives pieces of snapshots to others.
type SwarmPeer struct {
	Name    string `json:"name"`
	Address string `json:"address"` // address:port, as others reach it
	Site    string `json:"site"`
	// Have are the snapshots that it has, whole or in part, at most SwarmMaxHave.
	Have []SwarmHave `json:"have,omitempty"`
	// Door is the id of the newest snapshot that it fetches, or fetched, from other sites.
	Door string `json:"door,omitempty"`
}

// SwarmMaxHave bounds what one peer says that it has.
const SwarmMaxHave = 8

// SwarmHave is how much a peer has of a snapshot.
type SwarmHave struct {
	ID   string `json:"id"`
	Have int64  `json:"have"` // octets, verified
	Size int64  `json:"size"` // octets of the whole
}
