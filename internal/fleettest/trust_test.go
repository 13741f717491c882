package fleettest

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zonecast/zonecast/agent"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trust"
	"github.com/zonecast/zonecast/publisher"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// key makes a key in a file of the fleet's directory.
func (f *fleet) key(name string) ed25519.PrivateKey {
	f.t.Helper()
	k, err := snapshot.LoadOrCreateKey(filepath.Join(f.dir, name))
	if err != nil {
		f.t.Fatal(err)
	}
	return k
}

func public(k ed25519.PrivateKey) ed25519.PublicKey { return k.Public().(ed25519.PublicKey) }

func keyID(k ed25519.PrivateKey) string { return snapshot.KeyID(public(k)) }

// believe makes the host's file of keys.
func (h *host) believe(keys ...ed25519.PrivateKey) {
	h.f.t.Helper()
	var text []byte
	h.keys = nil
	for _, k := range keys {
		b, err := snapshot.EncodePublicKey(k.Public().(ed25519.PublicKey))
		if err != nil {
			h.f.t.Fatal(err)
		}
		text = append(text, b...)
		h.keys = append(h.keys, public(k))
	}
	if err := os.WriteFile(h.cfg.Keys[0], text, 0o644); err != nil {
		h.f.t.Fatal(err)
	}
}

// believer is a host that has a file of keys of its own.
func (f *fleet) believer(name string, keys ...ed25519.PrivateKey) *host {
	f.t.Helper()
	h := &host{f: f, name: name, cfg: agent.DefaultConfig()}
	h.cfg.Host, h.cfg.DNS, h.cfg.Keys = name, "192.0.2.1:53", []string{filepath.Join(f.dir, name+".keys")}
	h.cfg.Journal = filepath.Join(f.dir, name, "journal")
	h.cfg.StatusDir = filepath.Join(f.dir, name, "status")
	h.cfg.SessionTTL = time.Second
	h.believe(keys...)
	h.restart()
	return h
}

// put writes a node as somebody does who has the store.
func (f *fleet) put(path string, value []byte) {
	f.t.Helper()
	if _, err := f.st.Commit(context.Background(), store.Txn{Do: []store.Op{{Path: path, Value: value}}}); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) revoke(k ed25519.PrivateKey, void bool) {
	f.t.Helper()
	line, err := trust.Statement{Void: void, Time: time.Now(), Reason: "for the test"}.Sign(k)
	if err != nil {
		f.t.Fatal(err)
	}
	f.put(tree.RevocationPath(keyID(k)), []byte(line))
}

// trusts is what the store says of whom the host believes.
func (h *host) trusts() tree.Trust {
	n, err := h.f.st.Get(context.Background(), tree.TrustPath(dataset, h.name))
	var t tree.Trust
	if err == nil {
		err = tree.Decode(n, &t)
	}
	if err != nil {
		return tree.Trust{}
	}
	return t
}

// TestKeyRotation changes the publisher's key under a fleet that serves: both sign, hosts
// come to know the new one when they do, the old one is revoked; nobody waits for anybody.
func TestKeyRotation(t *testing.T) {
	f := newFleet(t)
	old, next := f.key("key"), f.key("next")
	_, first := f.publisherAt("p1")
	early, late := f.believer("early", old, next), f.believer("late", old)
	f.some(3)
	early.reaches()
	late.reaches()
	first.stop()
	f.some(1)
	_, second := f.publisherAt("p2", func(c *publisher.Config) { c.AlsoKeys = []string{filepath.Join(f.dir, "next")} })
	early.reaches()
	late.reaches()
	eventually(t, "both are said to sign", func() bool { return slices.Equal(early.trusts().SignedBy, []string{keyID(old), keyID(next)}) })
	if got := late.trusts(); !slices.Equal(got.Believed, []string{keyID(old)}) {
		t.Errorf("late believes %v", got.Believed)
	}
	late.believe(old, next) // without a restart
	eventually(t, "late believes both", func() bool { return len(late.trusts().Believed) == 2 })
	f.revoke(old, false)
	eventually(t, "old key is revoked", func() bool {
		return slices.Equal(early.trusts().Believed, []string{keyID(next)}) && slices.Equal(late.trusts().Believed, []string{keyID(next)})
	})
	f.some(1)
	early.reaches()
	late.reaches()
	second.stop()
	// A publisher that was forgotten signs with the old key alone.
	p, forgotten := f.publisherAt("p3")
	f.some(1)
	eventually(t, "signature by a retired key is refused", func() bool {
		n, _ := f.metric("late", `zonecast_agent_refused_total`)
		return n > 0 && strings.Contains(late.a.Status().Refused, "revoked: ")
	})
	if late.a.Status().Version >= f.d.Version() {
		t.Error("took what a retired key signed")
	}
	eventually(t, "the publisher says so", func() bool { return len(p.Status().Revoked) == 1 })
	forgotten.stop()
	f.publisherAt("p4", func(c *publisher.Config) { c.KeyFile = filepath.Join(f.dir, "next") })
	early.reaches()
	late.reaches()
	late.restart()
	late.reaches()
}

// claim adds signatures to a signed manifest that the named keys never made.
func claim(t *testing.T, signed []byte, ids ...string) []byte {
	t.Helper()
	// docs/format/manifest.md: format, two octets of length, payload, number of signatures, these
	at := 3 + int(binary.BigEndian.Uint16(signed[1:]))
	b := bytes.Clone(signed)
	b[at] += byte(len(ids))
	for _, id := range ids {
		key, err := hex.DecodeString(id)
		if err != nil {
			t.Fatal(err)
		}
		b = append(append(b, key...), signed[at+1+len(key):][:ed25519.SignatureSize]...)
	}
	if got := snapshot.SignedBy(b); len(got) != 1+len(ids) {
		t.Fatalf("claimed by %v", got)
	}
	return b
}

// TestStolenKey: a thief has the key and the store, and signs a version so high that nothing
// is ever newer. Revoked as void, the key's word goes for what a believed key signs; until
// then hosts serve on, also over a restart, and a store that hides the revocation changes
// nothing. Neither does what the thief claims of other keys: one that nobody knows, one that is
// retired, and one that the host comes to know later.
func TestStolenKey(t *testing.T) {
	t.Run("alone", func(t *testing.T) { testStolenKey(t, false) })
	t.Run("claims others", func(t *testing.T) { testStolenKey(t, true) })
}

func testStolenKey(t *testing.T, claims bool) {
	f := newFleet(t)
	stolen, next, retired, later := f.key("key"), f.key("next"), f.key("retired"), f.key("later")
	_, first := f.publisherAt("p1")
	h := f.believer("host0", stolen, next, retired)
	f.revoke(retired, false)
	f.some(5)
	h.reaches()
	first.stop()
	honest := f.d.Version()

	forged := snapshot.NewDataset(dataset)
	d, err := forged.Replace(time.Now().UnixMilli(), []record.RRset{rrset(t, "www.example.net", record.TypeA, "\xcb\x00\x71\x01")})
	if err != nil {
		t.Fatal(err)
	}
	d.Version = 1_000_000_000
	b, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	m := snapshot.Manifest{Dataset: dataset, Version: d.Version, Time: d.Time, Digest: d.Digest, Chain: d.Chain(), Content: d.Version, Oldest: d.Version}
	signed, err := m.Sign(stolen)
	if err != nil {
		t.Fatal(err)
	}
	if claims {
		signed = claim(t, signed, "0123456789abcdef", keyID(retired), keyID(later))
	}
	f.put(tree.LogPath(dataset, d.Version), append([]byte{'D'}, b...))
	f.put(tree.ManifestPath(dataset), signed)
	eventually(t, "the thief's version", func() bool { return h.a.Status().Version == d.Version })
	eventually(t, "by whose word", func() bool { return slices.Equal(h.trusts().SignedBy, []string{keyID(stolen)}) })
	h.believe(stolen, next, retired, later)
	eventually(t, "another key is known", func() bool { return len(h.trusts().Believed) == 3 })

	f.revoke(stolen, true)
	eventually(t, "alarm", func() bool { return strings.Contains(strings.Join(h.a.Alarms(), "\n"), "whose word is void") })
	if got := h.look().Version(); got != d.Version {
		t.Errorf("serves version %d, expected that it goes on with %d until there is something better", got, d.Version)
	}
	h.restart()
	if _, err := f.st.Commit(context.Background(), store.Txn{Do: []store.Op{{Path: tree.RevocationPath(keyID(stolen)), Delete: true}}}); err != nil {
		t.Fatal(err)
	}
	if got := h.look().Version(); got != d.Version {
		t.Errorf("after a restart it has version %d, expected %d", got, d.Version)
	}
	f.publisherAt("p2", func(c *publisher.Config) { c.KeyFile = filepath.Join(f.dir, "next") })
	eventually(t, "what the next key signed, though it is older", func() bool { return h.a.Status().Version == honest })
	h.floor = 0
	h.reaches()
	f.some(2)
	h.reaches()
	if a := h.a.Alarms(); len(a) > 0 {
		t.Errorf("alarms %q", a)
	}
	// The thief's manifest again: nobody is held up.
	f.put(tree.ManifestPath(dataset), signed)
	f.some(1)
	h.reaches()
}
