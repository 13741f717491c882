package site_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/proxy/site"
	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/wire"
)

const patience = 20 * time.Second

// raw is a connection on which a test says what it wants.
func raw(t *testing.T, socket string) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: proxy\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", wire.Path, wire.Protocol)
	r := bufio.NewReader(c)
	resp, err := http.ReadResponse(r, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("upgrade: %v, %v", resp, err)
	}
	return c, r
}

// served runs a proxy over a store with everything in it open.
func serve(t *testing.T, change ...func(*site.Config)) *served {
	t.Helper()
	dir := t.TempDir()
	up := memstore.New()
	t.Cleanup(func() { up.Close() })
	cfg := config(dir)
	for _, c := range change {
		c(&cfg)
	}
	run(t, cfg, site.Deps{Store: up, Tree: whole(true)})
	return &served{up: up, socket: filepath.Join(dir, "s"), net: newGate()}
}

// TestGarbage: who does not speak the protocol is left, and nobody else notices.
func TestGarbage(t *testing.T) {
	t.Parallel()
	s := serve(t)
	good := s.client(t)
	defer good.Close()
	watch := good.Watch(t.Context(), "/", 0)
	<-watch
	frame := func(kind wire.Kind, payload string) string {
		return string(wire.Frame{Kind: kind, ID: 1, Payload: []byte(payload)}.Append(nil))
	}
	for name, bytes := range map[string]string{
		"an oversized frame": "\xff\xff\xff\xff" + strings.Repeat("x", 9), "a frame of nothing": strings.Repeat("\x00", 13), "HTTP": "GET / HTTP/1.1\r\n\r\n", "an unknown kind": frame(99, ""),
		"a transaction of nothing": frame(wire.Commit, strings.Repeat("\x00", 18)), "a transaction that is cut": frame(wire.Commit, "x"),
		"a watch twice":  string(wire.Frame{Kind: wire.Watch, ID: 1, Payload: wire.AppendWatch(nil, "/", 0)}.Append(nil)) + string(wire.Frame{Kind: wire.Watch, ID: 1, Payload: wire.AppendWatch(nil, "/", 0)}.Append(nil)),
		"a ttl of years": frame(wire.Open, "\xff\xff\xff\xff\xff\xff\xff\x7f"), "what a proxy sends": frame(wire.Batch, "\x00\x01\x00\x00"),
	} {
		c, r := raw(t, s.socket)
		if _, err := io.WriteString(c, bytes); err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, r); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection is still open after %s", name, patience)
		}
	}
	if _, err := good.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: "/a"}}}); err != nil {
		t.Errorf("Commit of another: %v", err)
	}
	if b := <-watch; len(b.Puts) != 1 {
		t.Errorf("the watch of another has %+v", b)
	}
}

// TestSlowAgent: who does not read is not waited for.
func TestSlowAgent(t *testing.T) {
	t.Parallel()
	s := serve(t)
	good := s.client(t)
	defer good.Close()
	slow, _ := raw(t, s.socket)
	if _, err := slow.Write(wire.Frame{Kind: wire.Watch, ID: 1, Payload: wire.AppendWatch(nil, "/", 0)}.Append(nil)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	watch := good.Watch(ctx, "/", 0)
	value := make([]byte, 60<<10)
	for i := range 100 { // 6 MB: more than a socket takes
		if _, err := s.up.Commit(ctx, store.Txn{Do: []store.Op{{Path: fmt.Sprintf("/n/%d", i%10), Value: value}, {Path: "/last", Value: fmt.Append(nil, i)}}}); err != nil {
			t.Fatal(err)
		}
		for seen := false; !seen; {
			b, ok := <-watch
			if !ok {
				t.Fatalf("commit %d did not come", i)
			}
			for _, n := range b.Puts {
				seen = seen || n.Path == "/last" && string(n.Value) == fmt.Sprint(i)
			}
		}
	}
}

// TestTooMany: the connections are bounded, and who is refused is told why.
func TestTooMany(t *testing.T) {
	t.Parallel()
	s := serve(t, func(c *site.Config) { c.Most = 2 })
	raw(t, s.socket)
	raw(t, s.socket)
	c, err := net.Dial("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: proxy\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", wire.Path, wire.Protocol)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(text), "--proxy-agents-most is 2") {
		t.Errorf("the third is told %s %q", resp.Status, text)
	}
}

// TestOnlyWhatHostsNeed: of the tree, what hosts need is read, and less is written.
func TestOnlyWhatHostsNeed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	up := memstore.New()
	defer up.Close()
	run(t, config(dir), site.Deps{Store: up})
	c := (&served{up: up, socket: filepath.Join(dir, "s"), net: newGate()}).client(t)
	defer c.Close()
	if _, err := c.Get(t.Context(), "/claims/rule/0"); err == nil || errors.Is(err, store.ErrNotFound) || !strings.Contains(err.Error(), "not served") {
		t.Errorf("Get of a claim: error is %v", err)
	}
	ss, err := c.Session(t.Context(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/datasets/internal/head", "/claims/x", "/elect/presenter"} {
		for name, commit := range map[string]func(context.Context, store.Txn) (store.Revision, error){"Store": c.Commit, "Session": ss.Commit} {
			if _, err := commit(t.Context(), store.Txn{Do: []store.Op{{Path: path}}}); err == nil || !strings.Contains(err.Error(), "not written") {
				t.Errorf("%s.Commit of %s: error is %v", name, path, err)
			}
		}
	}
	if nodes, _, err := up.List(t.Context(), "/"); err != nil || len(nodes) > 0 {
		t.Errorf("the store has %v, error %v", nodes, err)
	}
	if _, err := ss.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: "/hosts/a"}}}); err != nil {
		t.Errorf("a host's report: %v", err)
	}
}

// TestDamagedCache: whatever the disk has, the proxy starts, serves what is whole, and has
// everything when the store answers.
func TestDamagedCache(t *testing.T) {
	t.Parallel()
	for name, damage := range map[string]func([]byte) []byte{
		"cut short": func(b []byte) []byte { return b[:len(b)-3] },
		"a flipped bit": func(b []byte) []byte {
			b[len(b)/2] ^= 4
			return b
		},
		"another magic": func(b []byte) []byte { return append([]byte("x"), b...) },
		"empty":         func([]byte) []byte { return nil },
		"garbage":       func(b []byte) []byte { return append(b, strings.Repeat("\xff", 100)...) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			up := memstore.New()
			defer up.Close()
			s := &served{up: up, socket: filepath.Join(dir, "s"), net: newGate()}
			_, stop := run(t, config(dir), site.Deps{Store: up, Tree: whole(true)})
			c := s.client(t)
			for i := range 20 {
				if _, err := c.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: fmt.Sprintf("/n/%d", i%7), Value: fmt.Append(nil, i)}}}); err != nil {
					t.Fatal(err)
				}
			}
			c.Close()
			stop()
			path := filepath.Join(dir, "site", "all.tree")
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			run(t, config(dir), site.Deps{Store: up, Tree: whole(true)})
			c = s.client(t)
			defer c.Close()
			want, _, err := up.List(t.Context(), "/")
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			for {
				got, _, err := c.List(ctx, "/")
				if err == nil && fmt.Sprint(got) == fmt.Sprint(want) {
					return
				}
				if ctx.Err() != nil {
					t.Fatalf("got %v, %v, expected %v", got, err, want)
				}
			}
		})
	}
}

// TestFullMirror: while a part of the tree is larger than it may be, agents are served nothing of it,
// and nothing of what happens is written to the disk; when it is smaller again the disk has all of
// it, so that who begins with the site cut off begins with what was there last.
func TestFullMirror(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	up := memstore.New()
	defer up.Close()
	cfg := config(dir)
	cfg.MaxSize = 1 << 20
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	commit := func(ops ...store.Op) {
		t.Helper()
		if _, err := up.Commit(ctx, store.Txn{Do: ops}); err != nil {
			t.Fatal(err)
		}
	}
	large := func(from, to int) {
		t.Helper()
		for i := from; i < to; i++ {
			commit(store.Op{Path: fmt.Sprintf("/large/%d", i), Value: make([]byte, 64<<10)})
		}
	}
	large(0, 12) // is there from the start, so that the file is not written anew for its length
	p, stop := run(t, cfg, site.Deps{Store: up, Tree: whole(true)})
	s := &served{up: up, socket: filepath.Join(dir, "s"), net: newGate()}
	troubled := func(want bool) {
		t.Helper()
		for ctx.Err() == nil {
			if strings.Contains(strings.Join(p.Troubles(), " "), "--proxy-agents-max-size") == want {
				return
			}
			time.Sleep(time.Millisecond)
		}
		t.Fatalf("troubles are %q", p.Troubles())
	}
	c := s.client(t)
	if _, _, err := c.List(ctx, "/"); err != nil {
		t.Fatal(err)
	}
	commit(store.Op{Path: "/a", Value: []byte("before")}, store.Op{Path: "/b", Value: []byte("before")})
	large(12, 17)
	troubled(true)
	commit(store.Op{Path: "/a", Value: []byte("meanwhile")}, store.Op{Path: "/b", Delete: true})
	time.Sleep(10 * time.Millisecond) // so that it is a batch of its own
	commit(store.Op{Path: "/large/0", Delete: true}, store.Op{Path: "/large/1", Delete: true})
	troubled(false)
	commit(store.Op{Path: "/c", Value: []byte("after")})
	for b := range c.Watch(ctx, "/", 0) {
		if len(b.Puts) > 0 && b.Puts[len(b.Puts)-1].Path == "/c" {
			break
		}
	}
	want, _, err := up.List(ctx, "/")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	stop()
	up.SetAvailable(false)
	run(t, cfg, site.Deps{Store: up, Tree: whole(true)})
	c = s.client(t)
	defer c.Close()
	got, _, err := c.List(ctx, "/")
	if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the disk has %d nodes, error %v; expected %d", len(got), err, len(want))
	}
}

// deaf is a store that takes every request and answers none while it is silent, as behind a line
// that swallows everything.
type deaf struct {
	store.Store
	silent atomic.Bool
}

func (d *deaf) wait(ctx context.Context) error {
	if d.silent.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (d *deaf) Get(ctx context.Context, path string) (store.Node, error) {
	if err := d.wait(ctx); err != nil {
		return store.Node{}, err
	}
	return d.Store.Get(ctx, path)
}

func (d *deaf) List(ctx context.Context, prefix string) ([]store.Node, store.Revision, error) {
	if err := d.wait(ctx); err != nil {
		return nil, 0, err
	}
	return d.Store.List(ctx, prefix)
}

// TestSilentStore: an agent that reads at the moment at which the store falls silent is given what
// the proxy has, before it gives up.
func TestSilentStore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mem := memstore.New()
	defer mem.Close()
	up := &deaf{Store: mem}
	run(t, config(dir), site.Deps{Store: up, Tree: whole(false)})
	c := (&served{up: mem, socket: filepath.Join(dir, "s"), net: newGate()}).client(t)
	defer c.Close()
	session, err := c.Session(t.Context(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := session.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: "/hosts/a", Value: []byte("here")}}}); err != nil {
		t.Fatal(err)
	}
	up.silent.Store(true)
	nodes, _, err := c.List(t.Context(), "/hosts/")
	if err != nil || len(nodes) != 1 || string(nodes[0].Value) != "here" {
		t.Errorf("agents are given %v, error %v", nodes, err)
	}
}
