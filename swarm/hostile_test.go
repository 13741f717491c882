package swarm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/anacrolix/torrent/metainfo"

	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// A peer of the site that sends what is not the snapshot is named, counted, and left alone for
// a while; the file is right, and it came from others.
func TestPeerThatSendsGarbage(t *testing.T) {
	w := newWorld(t)
	p := w.start("p", true)
	d := data(t, 1, 2500)
	ref := p.offer(d)
	evil := w.start("evil", false)
	evil.lie(t, ref, w)
	var later atomic.Int64
	h := w.start("h", false, func(_ *Config, _ *Deps, p *pace) {
		p.clock = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	})
	if err := h.fetch(ref); err != nil {
		t.Fatal(err)
	}
	w.eventually("evil is left alone", func() bool { return h.metric("garbage_total") >= 1 })
	bad := evil.self.Addr()
	if got := h.Status().Banned; len(got) != 1 || got[0] != bad {
		t.Errorf("left alone: %v, expected %s", got, bad)
	}
	if _, ok := h.gate.peer(dataset, evil.self); ok {
		t.Error("it would be connected to again")
	}
	if c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: bad.AsSlice()}}).Dial("tcp", h.self.String()); err == nil {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("it may connect: %d octets, %v", n, err)
		}
		_ = c.Close()
		w.eventually("refused", func() bool { return h.metric("refused_connections_total") >= 1 })
	}
	later.Store(int64(h.cfg.BanFor))
	w.eventually("forgiven", func() bool { _, ok := h.gate.peer(dataset, evil.self); return ok && len(h.Status().Banned) == 0 })
}

// lie has a member share a file that is right in size alone.
func (m *member) lie(t *testing.T, ref snapshot.Ref, w *world) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(w.dir, ref.ID.String()+".offered"))
	if err != nil {
		t.Fatal(err)
	}
	nodes, _, err := w.st.List(t.Context(), tree.TorrentPrefix(dataset, ref.ID.String()))
	if err != nil {
		t.Fatal(err)
	}
	mi, err := metainfo.Load(bytes.NewReader(nodes[0].Value))
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		b[i] ^= 0x55
	}
	path := filepath.Join(w.dir, m.name+"-lie")
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := openShared(path, ref.Size, pieceLength(ref.Size))
	if err != nil {
		t.Fatal(err)
	}
	m.share(&shared{id: ref.ID, size: ref.Size, file: f}, mi)
}

// mute is a peer that says it has everything, and answers no request.
type mute struct {
	ln    net.Listener
	asked atomic.Int64 // octets read behind the handshake
}

func newMute(t *testing.T, w *world, infoHash string, pieces int) *mute {
	t.Helper()
	ln, err := net.Listen("tcp", w.address())
	if err != nil {
		t.Fatal(err)
	}
	m := &mute{ln: ln}
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() {
				defer func() { _ = c.Close() }()
				var hello [68]byte
				if _, err := io.ReadFull(c, hello[:]); err != nil {
					return
				}
				copy(hello[20:28], make([]byte, 8)) // no extensions
				copy(hello[48:], "-MUTE00-abcdefghijkl")
				have := bytes.Repeat([]byte{0xff}, (pieces+7)/8)
				if pieces%8 != 0 {
					have[len(have)-1] = 0xff << (8 - pieces%8)
				}
				out := append(hello[:], 0, 0, byte((1+len(have))>>8), byte(1+len(have)), 5)
				out = append(append(out, have...), 0, 0, 0, 1, 1) // bitfield, unchoke
				if _, err := c.Write(out); err != nil {
					return
				}
				buf := make([]byte, 4096)
				for {
					n, err := c.Read(buf)
					m.asked.Add(int64(n))
					if err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { _ = ln.Close(); tasks.Wait() })
	return m
}

// name puts a peer into the store that is none of ours.
func (w *world) name(site, name, address string) {
	w.t.Helper()
	_, err := w.st.Commit(w.t.Context(), store.Txn{Do: []store.Op{{
		Path: tree.SwarmSitePrefix(dataset, site) + name, Value: tree.Encode(tree.SwarmPeer{Name: name, Address: address, Site: site}),
	}}})
	if err != nil {
		w.t.Fatal(err)
	}
}

// Peers that are asked and answer nothing hold nothing up: they are left, and counted, and what
// was asked of them is asked of others. Where there are only such, the URLs are asked.
func TestPeersThatStall(t *testing.T) {
	for _, alone := range []bool{false, true} {
		t.Run(fmt.Sprint("alone ", alone), func(t *testing.T) {
			w := newWorld(t)
			p := w.start("p", true)
			d := data(t, 1, 2500)
			ref, path := w.write(d)
			web := w.http(path, ref.ID)
			if ref = p.offer(d); alone {
				ref.URLs = []string{web.URL}
			}
			pieces := int((ref.Size + pieceLength(ref.Size) - 1) / pieceLength(ref.Size))
			var mutes []*mute
			for i := range 3 {
				m := newMute(t, w, ref.Torrent, pieces)
				w.name("default", fmt.Sprint("mute", i), m.ln.Addr().String())
				mutes = append(mutes, m)
			}
			if alone {
				p.stop()
			}
			h := w.start("h", false)
			if err := h.fetch(ref); err != nil {
				t.Fatal(err)
			}
			if alone != (web.sent() > 0) || h.metric("fetched_total", bySwarm) != 1 {
				t.Errorf("URL gave %d octets, alone with the mute is %v", web.sent(), alone)
			}
			asked := int64(0)
			for _, m := range mutes {
				asked += m.asked.Load()
			}
			if asked == 0 {
				t.Error("nobody asked the mute: the test shows nothing")
			}
			if alone && h.metric("stalled_total") == 0 {
				t.Error("no stall is counted")
			}
		})
	}
}

// The store may say anything of a snapshot: only what the manifest signs is taken, and there are
// the URLs.
func TestMetainfoThatIsNotSigned(t *testing.T) {
	w := newWorld(t)
	p := w.start("p", true)
	d := data(t, 1, 500)
	ref, path := w.write(d)
	web := w.http(path, ref.ID)
	ref = p.offer(d, web.URL)
	nodes, _, err := w.st.List(t.Context(), tree.TorrentPrefix(dataset, ref.ID.String()))
	if err != nil {
		t.Fatal(err)
	}
	good := nodes[0].Value
	other, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, meta := range map[string][]byte{
		"none": nil, "cut": good[:len(good)/2], "bit": bytes.Replace(good, []byte("6:pieces"), []byte("6:piecez"), 1),
		"hash": append(bytes.Clone(good[:len(good)-60]), append(bytes.Repeat([]byte{1}, 30), good[len(good)-30:]...)...), "file": other[:store.MaxValue],
	} {
		op := store.Op{Path: nodes[0].Path, Value: meta, Delete: meta == nil}
		if _, err := w.st.Commit(t.Context(), store.Txn{Do: []store.Op{op}}); err != nil {
			t.Fatal(err)
		}
		h := w.start(name, false)
		if err := h.fetch(ref); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if h.metric("fetched_total", byFallback) != 1 || h.metric("fetched_total", bySwarm) != 0 {
			t.Errorf("%s: it was taken from the swarm", name)
		}
		h.stop()
	}
}

// A torrent that is signed and whose file is not the one of the id - a publisher gone wrong - is
// refused by the id.
func TestFileThatIsNotTheSnapshot(t *testing.T) {
	w := newWorld(t)
	p := w.start("p", true)
	ref, path := w.write(data(t, 1, 500))
	ref.ID[0] ^= 1
	var meta []byte
	var err error
	if ref.Torrent, meta, err = p.Offer(ref, path); err != nil {
		t.Fatal(err)
	}
	w.register(ref, meta)
	h := w.start("h", false)
	if _, err := h.Fetch(t.Context(), ref, t.TempDir(), nil); !errors.Is(err, follow.ErrContent) {
		t.Errorf("error is %v, expected ErrContent", err)
	}
	if left, _ := filepath.Glob(filepath.Join(h.cfg.Dir, "*")); len(left) > 0 || len(h.Status().Shared) > 0 {
		t.Errorf("it is kept: %v", left)
	}
}

// A disk that is full ends the fetch with an error of the disk, which another way would not help;
// when there is room again it goes on.
func TestFullDisk(t *testing.T) {
	w := newWorld(t)
	p := w.start("p", true)
	ref := p.offer(data(t, 1, 2500))
	other := p.offer(data(t, 2, 500))
	var full atomic.Bool
	h := w.start("h", false, func(_ *Config, _ *Deps, p *pace) {
		p.writeError = func() error {
			if full.Load() {
				return &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}
			}
			return nil
		}
	})
	if err := h.fetch(other); err != nil {
		t.Fatal(err)
	}
	full.Store(true)
	if err := h.fetch(ref); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("error is %v, expected that of the disk", err)
	}
	left, err := filepath.Glob(filepath.Join(h.cfg.Dir, "*"+wholeSuffix))
	if s := h.Status(); err != nil || len(s.Shared) > 0 || len(left) > 0 {
		t.Errorf("%v is shared and %v kept for others, %v; expected that it makes room", s.Shared, left, err)
	}
	full.Store(false)
	if err := h.fetch(ref); err != nil {
		t.Fatal(err)
	}
}

// A fetch that is cut short goes on from what it had.
func TestResume(t *testing.T) {
	w := newWorld(t)
	slow := func(c *Config, _ *Deps, _ *pace) { c.Up = 2 << 20 }
	p := w.start("p", true, slow)
	ref := p.offer(data(t, 1, 2500))
	h := w.start("h", false)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := h.Fetch(ctx, ref, t.TempDir(), func(done, total int64) {
		if done > total/2 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("error is %v, expected Canceled", err)
	}
	h.stop()
	before := p.metric("sent_bytes_total")
	again := w.start("h", false)
	if err := again.fetch(ref); err != nil {
		t.Fatal(err)
	}
	if sent := p.metric("sent_bytes_total") - before; sent > 0.75*float64(ref.Size) {
		t.Errorf("%.0f octets of %d were sent again, expected less than half and some", sent, ref.Size)
	}
	again.stop()
	// Whole, and kept over another restart: nothing is asked.
	third := w.start("h", false)
	w.eventually("shared", func() bool { return len(third.Status().Shared) == 1 })
	before = p.metric("sent_bytes_total")
	if err := third.fetch(ref); err != nil {
		t.Fatal(err)
	}
	if sent := p.metric("sent_bytes_total") - before; sent != 0 {
		t.Errorf("%.0f octets were sent for a file that is there", sent)
	}
}

// Kept are the newest, within the bounds, and what is too large for them is fetched whole.
func TestKept(t *testing.T) {
	w := newWorld(t)
	p := w.start("p", true)
	h := w.start("h", false, func(c *Config, _ *Deps, _ *pace) { c.MaxBytes = 1 << 20 })
	var refs []snapshot.Ref
	for i := range 3 {
		refs = append(refs, p.offer(data(t, uint64(i), 400)))
		if err := h.fetch(refs[i]); err != nil {
			t.Fatal(err)
		}
	}
	got := strings.Join(h.Status().Shared, " ")
	if want := refs[1].ID.String() + " " + refs[2].ID.String(); got != want {
		t.Errorf("kept: %s, expected %s", got, want)
	}
	if left, _ := filepath.Glob(filepath.Join(h.cfg.Dir, "*")); len(left) != 4 {
		t.Errorf("files left: %v, expected two snapshots and their metainfo", left)
	}
	if kept := h.metric("kept_bytes"); kept != float64(refs[1].Size+refs[2].Size) {
		t.Errorf("kept_bytes is %v", kept)
	}
	d := data(t, 7, 2500)
	large, path := w.write(d)
	large = p.offer(d, w.http(path, large.ID).URL)
	if err := h.fetch(large); err != nil {
		t.Fatal(err)
	}
	if h.metric("fetched_total", byFallback) != 1 {
		t.Error("a snapshot that does not fit was kept")
	}
}

// Of two sites each takes few copies from elsewhere.
func TestSitesFetchAmongThemselves(t *testing.T) {
	w := newWorld(t)
	p := w.start("p", true)
	ref := p.offer(data(t, 1, 2500))
	sites := map[netip.Addr]string{}
	var mu sync.Mutex
	crossed := map[string]int{} // octets received from another site, by site
	var hosts []*member
	for _, site := range []string{"ams", "fra"} {
		for i := range 5 {
			h := w.start(fmt.Sprint(site, i), false, patient, func(c *Config, _ *Deps, p *pace) {
				c.Site = site
				p.traffic = func(a netip.AddrPort, received, _ int) {
					mu.Lock()
					defer mu.Unlock()
					if sites[a.Addr()] != site {
						crossed[site] += received
					}
				}
			})
			mu.Lock()
			sites[h.self.Addr()] = site
			mu.Unlock()
			hosts = append(hosts, h)
		}
	}
	w.all(hosts, func(h *member) error { return h.fetch(ref) })
	mu.Lock()
	defer mu.Unlock()
	for site, octets := range crossed {
		copies := float64(octets) / float64(ref.Size)
		t.Logf("%s received %.2f copies from elsewhere for 5 hosts", site, copies)
		if copies < 1 || copies > 2.3 {
			t.Errorf("%s received %.2f copies from elsewhere, expected 1 to %d and some", site, copies, doors)
		}
	}
}

// The publisher sends a snapshot to the roots alone, whatever the number of sites: also when all
// begin at once and nobody yet knows of the others.
func TestPublisherSendsToRoots(t *testing.T) {
	const sites = 8
	w := newWorld(t)
	p := w.start("p", true, patient)
	ref, path := w.random(6 << 20)
	var meta []byte
	var err error
	if ref.Torrent, meta, err = p.Offer(ref, path); err != nil {
		t.Fatal(err)
	}
	w.register(ref, meta)
	var hosts []*member
	for i := range 2 * sites {
		hosts = append(hosts, w.start(fmt.Sprint("h", i), false, patient, func(c *Config, _ *Deps, p *pace) {
			c.Site, c.Up = fmt.Sprint("s", i%sites), 3<<20 // whoever can gets it from the publisher, which is faster
			p.settle = time.Second
		}))
	}
	w.all(hosts, func(h *member) error {
		_, err := h.Fetch(t.Context(), ref, filepath.Join(w.dir, h.name, "fetch"), nil)
		return err
	})
	sent := p.metric("sent_bytes_total")
	t.Logf("the publisher sent %.2f times the file", sent/float64(ref.Size))
	if sent > 3*roots*float64(ref.Size) { // on a busy machine places are dealt out late
		t.Errorf("the publisher sent %.2f times the file to %d doors, expected about %d times", sent/float64(ref.Size), 2*sites, roots)
	}
}

// A root that gets next to nothing is not what the fleet waits for.
func TestSlowRoot(t *testing.T) {
	w := newWorld(t)
	hurry := func(_ *Config, _ *Deps, p *pace) { p.term, p.fair = time.Second, 1<<20 }
	p := w.start("p", true)
	ref, path := w.random(16 << 20)
	var meta []byte
	var err error
	if ref.Torrent, meta, err = p.Offer(ref, path); err != nil {
		t.Fatal(err)
	}
	w.register(ref, meta)
	// Three that say they are doors, and are: they have a line of 64 KiB/s and so move, slowly.
	ctx, cancel := context.WithCancel(t.Context())
	var slow sync.WaitGroup
	for i := range 3 {
		h := w.start(fmt.Sprint("slow", i), false, hurry, func(c *Config, _ *Deps, _ *pace) { c.Site, c.Down = fmt.Sprint("slow", i), minRate })
		slow.Go(func() { _, _ = h.Fetch(ctx, ref, filepath.Join(w.dir, h.name, "fetch"), nil) })
		w.eventually(h.name+" is a door", func() bool { return strings.Contains(string(h.Nodes()[1].Value), ref.ID.String()) })
	}
	fast := w.start("fast", false, hurry, patient)
	began := time.Now()
	_, err = fast.Fetch(t.Context(), ref, filepath.Join(w.dir, "fast", "fetch"), nil)
	took := time.Since(began)
	cancel()
	slow.Wait()
	if alone := time.Duration(ref.Size/(3*minRate)) * time.Second; err != nil || took > alone*9/10 {
		t.Errorf("took %s (%v), expected less than the %s that slow roots need", took, err, alone)
	}
}

func FuzzDecodeMetainfo(f *testing.F) {
	ref := snapshot.Ref{ID: snapshot.ID{1}, Size: 200000, URLs: []string{"http://192.0.2.1/x"}}
	m, err := makeMetainfo(dataset, ref, minPiece, bytes.NewReader(make([]byte, ref.Size)))
	if err != nil {
		f.Fatal(err)
	}
	b, err := encodeMetainfo(m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("d4:infod6:lengthi1e4:name1:x12:piece lengthi65536e6:pieces0:ee"))
	f.Fuzz(func(t *testing.T, b []byte) {
		ref := ref
		if got, err := metainfo.Load(bytes.NewReader(b)); err == nil {
			ref.Torrent = got.HashInfoBytes().HexString() // as if somebody had signed it
		}
		m, info, err := decodeMetainfo(b, dataset, ref)
		if err != nil {
			return
		}
		if info.Length != ref.Size || info.NumPieces() < 1 || m.HashInfoBytes().HexString() != ref.Torrent {
			t.Errorf("taken: %+v", info)
		}
	})
}

func TestConfig(t *testing.T) {
	good := DefaultConfig()
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"name for an address": {func(c *Config) { c.Listen = "host0:7382" }, "listen is"},
		"nobody reaches it":   {func(c *Config) { c.Listen = "0.0.0.0:7382" }, "address is empty"},
		"address":             {func(c *Config) { c.Address = "192.0.2.1" }, "address is"},
		"any address":         {func(c *Config) { c.Address = "[::]:7382" }, "address is"},
		"site":                {func(c *Config) { c.Site = "a/b" }, "site is"},
		"no site":             {func(c *Config) { c.Site = "" }, "site is"},
		"up":                  {func(c *Config) { c.Up = 1000 }, "up is 1000"},
		"down":                {func(c *Config) { c.Down = -1 }, "down is -1"},
		"max-bytes":           {func(c *Config) { c.MaxBytes = 0 }, "max-bytes is 0"},
		"keep":                {func(c *Config) { c.Keep = 8 }, "keep is 8"},
		"max-peers":           {func(c *Config) { c.MaxPeers = 1 }, "max-peers is 1"},
		"ban-for":             {func(c *Config) { c.BanFor = 0 }, "ban-for is 0s"},
	} {
		c := DefaultConfig()
		test.change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error is %v, expected %q in it", name, err, test.want)
		}
	}
	c := DefaultConfig()
	c.Listen, c.Address = "0.0.0.0:7382", "192.0.2.1:7382"
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

var _ follow.Fetcher = (*Swarm)(nil)
