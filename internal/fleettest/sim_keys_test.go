package fleettest

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trust"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/snapshot/journal"
	"github.com/zonecast/zonecast/store"
)

// Keys that hosts know beside the publishers', and that get into others' hands: leaked ones are revoked
// before a thief signs with them, of which hosts that are cut off hear late; the robbed one is not, so
// that hosts take what the thief published, until its word is void.

const leaks = 4

// farAhead is how many versions above the head a thief publishes: nobody comes there by waiting.
const farAhead = 1_000_000

// heists tells whether a thief may sign with a key that is believed.
func (s scene) heists() bool { return s.only["heist"] > 0 }

func (s scene) leaks() bool { return s.only == nil || s.only["leak"] > 0 }

// more are the files of the keys that hosts know besides.
func (w *world) more() (names []string) {
	if w.leaks() {
		for i := range leaks {
			names = append(names, fmt.Sprint("leaked", i))
		}
	}
	if w.heists() {
		names = append(names, "robbed")
	}
	return names
}

// keyFiles are those of a host.
func (h *simHost) keyFiles() (files []string) {
	names := append([]string{"key", "stolen"}, h.w.more()...)
	if h.w.without == keysCheck {
		names = append(names, "thief")
	}
	for _, name := range names {
		files = append(files, filepath.Join(h.w.dir, name+".pub"))
	}
	return files
}

// revoke revokes a key, and tells whether the store has that.
func (w *world) revoke(key ed25519.PrivateKey, void bool) bool {
	line, err := trust.Statement{Void: void, Time: time.Now(), Reason: "stolen"}.Sign(key)
	if err != nil {
		w.t.Fatal(err)
	}
	path := tree.RevocationPath(snapshot.KeyID(key.Public().(ed25519.PublicKey)))
	w.put(store.Op{Path: path, Value: []byte(line)})
	_, there := w.c.Node(path)
	return there
}

// leak revokes a key while all hosts are cut off, has a thief sign with it, and lets the hosts come back
// while no publisher does.
func (w *world) leak() string {
	if w.leaked == leaks {
		return ""
	}
	key := w.extra[fmt.Sprint("leaked", w.leaked)]
	w.leaked++
	for _, s := range w.all() {
		if strings.HasPrefix(s.name, "publisher") || strings.HasPrefix(s.name, "host") {
			s.setCut(true)
		}
	}
	time.Sleep(4 * time.Second)
	synctest.Wait()
	if !w.revoke(key, w.rng.IntN(2) == 0) {
		return "a key cannot be revoked"
	}
	w.put(store.Op{Path: tree.ManifestPath(dataset), Value: w.theft(key, 2)})
	for _, h := range w.hosts {
		h.agent.setCut(false)
	}
	time.Sleep(3 * time.Second)
	synctest.Wait()
	return "a key is revoked while hosts are cut off, and a thief signs with it"
}

// heist has a thief publish with a key that hosts believe.
func (w *world) heist() string {
	if w.p.isRobbed() {
		return ""
	}
	b := w.theft(w.extra["robbed"], farAhead)
	m, err := snapshot.DecodeManifest(b)
	if err != nil {
		panic(err) // it is ours
	}
	w.p.mu.Lock()
	w.p.robbed, w.p.loot = true, m.Chain
	w.p.mu.Unlock()
	w.put(store.Op{Path: tree.ManifestPath(dataset), Value: b})
	return "a thief publishes with a key that hosts believe"
}

// void has people notice it. They may find that the store takes nothing.
func (w *world) void() string {
	if !w.p.isRobbed() {
		return ""
	}
	if !w.revoke(w.extra["robbed"], w.without != voided) {
		return "the thief's word cannot be made void"
	}
	return "the thief's word is void"
}

// unvoided has people make void what is not, and tells when they could not.
func (w *world) unvoided() string {
	if !w.p.isRobbed() {
		return ""
	}
	if _, there := w.c.Node(tree.RevocationPath(snapshot.KeyID(w.extra["robbed"].Public().(ed25519.PublicKey)))); there {
		return ""
	}
	w.void()
	return "the thief's word is not void"
}

func (p *promises) isRobbed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.robbed
}

// beliefs are the keys that a server believes now. What ends them is to be called when it ends.
func (h *simHost) beliefs(ctx context.Context, disk *simDisk) journal.Keys {
	if !h.w.heists() {
		return journal.Fixed(h.keys()...)
	}
	ring, err := trust.Open(trust.Config{Keys: h.keyFiles(), Memory: trust.MemoryFile(h.path("journal")), Reader: true, FS: disk, Log: h.w.log})
	if err != nil {
		h.w.t.Error(err)
		return journal.Fixed(h.keys()...)
	}
	go ring.Run(ctx, nil, nil)
	return ring.Keys
}

// void lets go of what was served by a word that is void.
func (s *served) void() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at, s.chain, s.floor = 0, snapshot.Chain{}, 0
}

// sign notes who signed what is served.
func (s *served) sign(by []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.signers = slices.Clone(by)
}
