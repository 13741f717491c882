package site_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/proxy/site"
	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/proxied"
)

// between is the network between an agent and several proxies, each of which can be cut off.
type between struct {
	mu    sync.Mutex // guards below
	conns map[string][]net.Conn
	cut   map[string]bool
	last  string // address of the newest connection
}

func (b *between) dial(ctx context.Context, network, address string) (net.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cut[address] {
		return nil, errors.New("the test has cut the network")
	}
	c, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err == nil {
		b.conns[address] = append(b.conns[address], c)
		b.last = address
	}
	return c, err
}

func (b *between) set(address string, up bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cut[address] = !up
	if !up {
		for _, c := range b.conns[address] {
			_ = c.Close() // as the network does
		}
		delete(b.conns, address)
	}
}

// TestTwoProxies: an agent that loses one proxy of its site goes on at the other: its watch where it
// was, with nothing older; its session anew, and the first proxy, which is alive all the
// while and cleans up after it, takes nothing away of what it says at the second.
func TestTwoProxies(t *testing.T) {
	t.Parallel()
	dir, up := t.TempDir(), memstore.New()
	defer up.Close()
	proxies := make([]string, 2)
	for i := range proxies {
		d := filepath.Join(dir, fmt.Sprint(i))
		cfg := config(d)
		cfg.Listen = fmt.Sprintf("unix:%s/p%d", dir, i)
		proxies[i] = filepath.Join(dir, fmt.Sprint("p", i))
		run(t, cfg, site.Deps{Store: up.Peer(), Tree: whole(true)})
	}
	lines := &between{conns: map[string][]net.Conn{}, cut: map[string]bool{proxies[1]: true}}
	agent, err := proxied.Open(t.Context(), proxied.Config{Endpoints: []string{"unix:" + proxies[0], "unix:" + proxies[1]}, Dial: lines.dial})
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	watch := agent.Watch(ctx, "/datasets/", 0)
	if b := <-watch; !b.Reset {
		t.Fatalf("the first batch is %+v, expected a Reset", b)
	}
	rev, seen := store.Revision(0), map[string]store.Revision{}
	comes := func(i int) {
		t.Helper()
		r, err := up.Commit(ctx, store.Txn{Do: []store.Op{{Path: "/datasets/a", Value: fmt.Append(nil, i)}, {Path: fmt.Sprint("/datasets/", i)}}})
		if err != nil {
			t.Fatal(err)
		}
		select {
		case b := <-watch:
			found := 0
			for _, n := range b.Puts { // one that is there already may come again, an older one not
				if n.Modified < seen[n.Path] {
					t.Errorf("change %d: %s comes as of revision %d, after that of %d", i, n.Path, n.Modified, seen[n.Path])
				}
				if seen[n.Path] = n.Modified; n.Modified == r {
					found++
				}
			}
			if b.Reset || b.Revision <= rev || b.Revision != r || found != 2 {
				t.Errorf("change %d comes as %+v, after revision %d, expected the two nodes of revision %d", i, b, rev, r)
			}
			rev = b.Revision
		case <-ctx.Done():
			t.Fatalf("change %d does not come", i)
		}
	}
	said := func(want string) {
		t.Helper()
		n, err := up.Get(ctx, "/hosts/a")
		if err != nil || string(n.Value) != want || !n.Ephemeral {
			t.Errorf("the store has %q of the host, error %v; expected %q", n.Value, err, want)
		}
	}
	for i := range 4 {
		comes(10 * i)
		session, err := agent.Session(ctx, time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := session.Commit(ctx, store.Txn{Do: []store.Op{{Path: "/hosts/a", Value: fmt.Append(nil, "life ", i)}}}); err != nil {
			t.Fatal(err)
		}
		said(fmt.Sprint("life ", i))
		comes(10*i + 1)
		lines.set(proxies[(i+1)%2], true)
		lines.set(proxies[i%2], false)
		comes(10*i + 2)
		select {
		case <-session.Done():
		case <-ctx.Done():
			t.Fatal("the session at the proxy that was lost goes on")
		}
	}
	session, err := agent.Session(ctx, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := session.Commit(ctx, store.Txn{Do: []store.Op{{Path: "/hosts/a", Value: []byte("the last")}}}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1500 * time.Millisecond) // the session at the other proxy is over for everybody
	said("the last")
	if err := session.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := up.Get(ctx, "/hosts/a"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("after the end of the session: error is %v", err)
	}
}
