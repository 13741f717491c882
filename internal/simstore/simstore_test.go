package simstore_test

import (
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/simstore"
	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/storetest"
)

// A cluster with delays and replicas that lag is a store like any other.
func TestContract(t *testing.T) {
	for name, cfg := range map[string]simstore.Config{
		"at once": {Timeout: 50 * time.Millisecond},
		"delayed": {Seed: 1, Delay: 300 * time.Microsecond, Lag: 2 * time.Millisecond, Reconnect: 20 * time.Millisecond, Timeout: 50 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			clusters := map[store.Store]*simstore.Cluster{}
			mu := make(chan struct{}, 1)
			of := func(s store.Store, c *simstore.Cluster) *simstore.Cluster {
				mu <- struct{}{}
				defer func() { <-mu }()
				if c != nil {
					clusters[s] = c
				}
				return clusters[s]
			}
			client := func(c *simstore.Cluster) store.Store {
				s := c.Client("test")
				of(s, c)
				return s
			}
			storetest.Run(t, func(t *testing.T) store.Store { return client(simstore.New(cfg)) }, storetest.Options{
				Peer:    func(t *testing.T, s store.Store) store.Store { return client(of(s, nil)) },
				Die:     func(t *testing.T, s store.Store) { s.(*simstore.Client).Die() },
				Compact: func(t *testing.T, s store.Store) { of(s, nil).Compact() },
				SetAvailable: func(t *testing.T, s store.Store, up bool) {
					of(s, nil).SetReplica(0, up)
					of(s, nil).SetReplica(1, up)
				},
				TTL: 200 * time.Millisecond,
			})
		})
	}
}
