package tree

import "strings"

// SiteParts are parts of the tree, by their prefixes, as the proxy of a site serves them to
// hosts; what is in none of them it does not.
type SiteParts struct {
	// Mirror is followed from the start and kept on the disk: what hosts go on from.
	Mirror []string
	// Read is read from the store when hosts ask, and remembered while it is away.
	Read []string
	// Write is what hosts may write, and read.
	Write []string
}

// Site is what hosts need. Whatever a host comes to read or write belongs here.
func Site() SiteParts {
	return SiteParts{
		Mirror: []string{Datasets, "/parts/", "/trialparts/", Torrents, Config, "/configparts/", Revocations, Groups, VIPOrders},
		Write:  []string{Hosts, Services, Samples, Directs, Swarm, Trusts, VIPs},
	}
}

// CanRead tells whether hosts may read below prefix, or the node of which it is the path.
func (p SiteParts) CanRead(prefix string) bool {
	return p.Mirrored(prefix) != "" || within(p.Read, prefix) != "" || p.CanWrite(prefix)
}

// CanWrite tells whether hosts may write the node at path.
func (p SiteParts) CanWrite(path string) bool { return within(p.Write, path) != "" }

// Mirrored is the mirrored prefix that prefix, or the node at it, is in; empty: none.
func (p SiteParts) Mirrored(prefix string) string { return within(p.Mirror, prefix) }

func within(prefixes []string, path string) string {
	for _, p := range prefixes {
		if strings.HasPrefix(path, p) {
			return p
		}
	}
	return ""
}
