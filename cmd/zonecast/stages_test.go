package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/zonecast/zonecast/internal/datasets"
	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// TestAgentSwarm: a host is named in the swarm of each dataset that it carries, and of no other, by
// one address.
func TestAgentSwarm(t *testing.T) {
	for _, c := range []struct{ listed, also, want []string }{
		{nil, nil, []string{"internal"}},
		{nil, []string{"edge"}, []string{"edge", "internal"}},
		{[]string{"edge"}, nil, []string{"edge"}},
	} {
		st := memstore.New()
		dir := t.TempDir()
		key := filepath.Join(dir, "key")
		if _, err := snapshot.LoadOrCreateKey(key); err != nil {
			t.Fatal(err)
		}
		n, err := newNode("agent", processOptions{LogOptions: defaultLog()}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		n.store = st.Peer()
		s := &agentStage{}
		s.declare(&cobra.Command{})
		s.Host, s.DNS, s.Keys, s.Also = "dns1", "192.0.2.1:53", []string{key + ".pub"}, c.also
		s.Journal, s.StatusDir = filepath.Join(dir, "journal"), filepath.Join(dir, "status")
		s.swarm.Listen = "127.0.0.1:0"
		if err := os.MkdirAll(s.StatusDir, 0o755); err != nil {
			t.Fatal(err)
		}
		if c.listed != nil {
			if err := datasets.WriteCarried(s.Journal, c.listed); err != nil {
				t.Fatal(err)
			}
			group := tree.Encode(tree.Group{Datasets: c.listed, Hosts: []string{"dns1"}})
			if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: tree.GroupPath("g"), Value: group}}}); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.add(n); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- n.run(ctx) }()
		var got, addresses []string
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			nodes, _, err := st.List(t.Context(), tree.Swarm)
			if err != nil {
				t.Fatal(err)
			}
			got, addresses = nil, nil
			for _, n := range nodes {
				if dataset, rest, _ := strings.Cut(strings.TrimPrefix(n.Path, tree.Swarm), "/"); strings.HasPrefix(rest, "sites/") {
					var p tree.SwarmPeer
					if err := tree.Decode(n, &p); err != nil {
						t.Fatal(err)
					}
					got, addresses = append(got, dataset), append(addresses, p.Address)
				}
			}
			if slices.Equal(got, c.want) {
				break
			}
		}
		if !slices.Equal(got, c.want) || len(slices.Compact(addresses)) != 1 {
			t.Errorf("listed %v, options %v: named in the swarms of %v at %v, want %v at one address", c.listed, c.also, got, addresses, c.want)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		st.Close()
	}
}
