//go:build acceptance

package e2e

import (
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/zonecast/zonecast/geo/formats/formatstest"
)

// TestGDNSDServed has a fleet's authority and Debian's gdnsd answer 100,000 clients with
// Wikimedia's maps and GeoLite2's cities (scripts/fetch-geo-data.sh), over UDP with ECS.
func TestGDNSDServed(t *testing.T) {
	paths, flat := formatstest.Cities(t)
	r := rand.New(rand.NewPCG(5, 6))
	clients := formatstest.OfNetworks(r, flat[0], 60_000)
	clients = append(clients, formatstest.OfNetworks(r, flat[1], 20_000, formatstest.Embedding()...)...)
	for len(clients) < 95_000 {
		clients = append(clients, formatstest.Random(r, netip.MustParsePrefix("0.0.0.0/0")))
	}
	for n := 0; len(clients) < 100_000; n++ {
		clients = append(clients, formatstest.Forms(clients[n*11])...)
	}
	whole := formatstest.ToGeoIP2(t, flat...)
	dir := filepath.Join(Root(), "geo", "formats", "testdata", "wikimedia")
	gdnsd := formatstest.StartGDNSD(t, formatstest.Wikimedia(t, dir), map[string][]byte{"x.mmdb": whole}, 5*time.Minute)
	besideGDNSD(t, gdnsd, paths, clients)
}
