package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/api"
	"github.com/zonecast/zonecast/api/controlapi"
	"github.com/zonecast/zonecast/internal/zonefile"
	"github.com/zonecast/zonecast/record"
)

// Data is the directory of the whole data set (wikimedia-2019), or "" when it is
// not beside the checkout.
func Data() string {
	dir := os.Getenv("ZONECAST_DATA")
	if dir == "" {
		dir = filepath.Join(Root(), "..", "shared", "data", "wikimedia-2019")
	}
	if _, err := os.Stat(filepath.Join(dir, "fleet.jsonl")); err != nil {
		return ""
	}
	return dir
}

// NeedData is Data for tests that cannot do without.
func NeedData(t testing.TB) string {
	t.Helper()
	dir := Data()
	if dir == "" {
		t.Skip("the data set wikimedia-2019 is not here: set ZONECAST_DATA to its directory")
	}
	return dir
}

// Goal is what a zone file must have become in the store.
type Goal struct {
	File     string
	Revision string // "" means that nothing is claimed by it
	Refused  error  // why its newest content is refused; Revision is then the last good one
}

// AwaitFiles waits until the zone files called files are what every live host
// answers; a file that is gone must be gone from the sources. It returns the
// version.
func AwaitFiles(ctx context.Context, c *api.Client, dir string, files []string) (int64, error) {
	var goals []Goal
	for _, f := range files {
		g := Goal{File: f}
		if _, err := os.Stat(filepath.Join(dir, f)); err == nil {
			z, err := zonefile.Parse(os.DirFS(dir), f, record.Provenance{})
			if err != nil {
				return 0, fmt.Errorf("the test's own zone file: %w", err)
			}
			g.Revision = z.Revision
		}
		goals = append(goals, g)
	}
	return AwaitGoals(ctx, c, goals)
}

// AwaitGoals waits until every live host answers what the goals say, and returns the
// version.
func AwaitGoals(ctx context.Context, c *api.Client, goals []Goal) (int64, error) {
	const poll = 5 * time.Millisecond
	for {
		st, err := c.Control.Status(ctx)
		if err != nil {
			return 0, err
		}
		have := map[string]*controlapi.SourceState{}
		for _, s := range st.Sources {
			have[s.Source] = s
		}
		missing, last := "", int64(0)
		for _, g := range goals {
			source, err := zonefile.SourceOf(g.File)
			if err != nil {
				return 0, err
			}
			s := have[string(source)]
			why := g.missing(s)
			if why != "" {
				missing = string(source) + " " + why
			}
			if s != nil {
				last = max(last, s.StoreRevision)
			}
		}
		if missing == "" {
			return AwaitClaims(ctx, c, last)
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("zone files not imported: %s: %w", missing, ctx.Err())
		case <-time.After(poll):
		}
	}
}

func (g Goal) missing(s *controlapi.SourceState) string {
	switch {
	case s == nil && g.Revision == "" && g.Refused == nil:
		return ""
	case s == nil:
		return "is not there"
	case g.Refused == nil && g.Revision == "":
		return "is still there"
	case s.Revision != g.Revision:
		return fmt.Sprintf("has revision %q, expected %q (error %q)", s.Revision, g.Revision, s.Error)
	case g.Refused == nil && s.Error != "":
		return fmt.Sprintf("has error %q", s.Error)
	case g.Refused != nil && !strings.Contains(s.Error, g.Refused.Error()):
		return fmt.Sprintf("has error %q, expected %q", s.Error, g.Refused)
	}
	return ""
}

// AwaitClaims waits until every live host answers what the claims were at a store
// revision, and returns the version.
func AwaitClaims(ctx context.Context, c *api.Client, revision int64) (int64, error) {
	return await(ctx, c, revision, "claims")
}

// AwaitServers waits until every live host answers what the registry was at a store
// revision.
func AwaitServers(ctx context.Context, c *api.Client, revision int64) (int64, error) {
	return await(ctx, c, revision, "servers")
}

func await(ctx context.Context, c *api.Client, revision int64, kind string) (int64, error) {
	left := 30 * time.Second
	if d, ok := ctx.Deadline(); ok {
		left = min(left, time.Until(d))
	}
	a, err := c.Control.Wait(ctx, revision, kind, "internal", int32(left.Milliseconds()))
	if err != nil {
		return 0, err
	}
	if !a.Done {
		return 0, fmt.Errorf("not answered everywhere after %v: version %d, %s, missing %v", left, a.Version, a.Stage, a.Missing)
	}
	return a.Version, nil
}

// OneDigest checks that all hosts answer the dataset's digest and gives it.
func OneDigest(ctx context.Context, c *api.Client, hosts int) (string, error) {
	st, err := c.Control.Status(ctx)
	if err != nil {
		return "", err
	}
	if len(st.Datasets) != 1 {
		return "", fmt.Errorf("%d datasets, expected 1", len(st.Datasets))
	}
	d := st.Datasets[0]
	if len(d.Hosts) != hosts {
		return "", fmt.Errorf("%d live hosts, expected %d", len(d.Hosts), hosts)
	}
	for _, h := range d.Hosts {
		if h.Digest != d.Digest {
			return "", fmt.Errorf("host %s answers version %d with digest %s, the dataset is version %d with %s", h.Name, h.Version, h.Digest, d.Version, d.Digest)
		}
	}
	return d.Digest, nil
}

// Addresses are hosts as the client dials them.
func Addresses(base, n int) []netip.AddrPort {
	out := make([]netip.AddrPort, n)
	for i := range out {
		out[i] = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(base+i))
	}
	return out
}
