package main

import (
	"context"
	"crypto/ed25519"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/zonecast/zonecast/internal/memstore"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/internal/trust"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// TestKeyStatus: a key can go when, and only when, every host believes another that signs.
func TestKeyStatus(t *testing.T) {
	st := memstore.New()
	defer st.Close()
	key := func(seed byte) (ed25519.PrivateKey, string) {
		k := ed25519.NewKeyFromSeed(append(make([]byte, ed25519.SeedSize-1), seed))
		return k, snapshot.KeyID(k.Public().(ed25519.PublicKey))
	}
	old, oldID := key(1)
	next, nextID := key(2)
	put := func(path string, value []byte) {
		t.Helper()
		if _, err := st.Commit(context.Background(), store.Txn{Do: []store.Op{{Path: path, Value: value}}}); err != nil {
			t.Fatal(err)
		}
	}
	m := snapshot.Manifest{Dataset: "internal", Version: 7, Oldest: 1, Signed: 1000, ValidUntil: 2000}
	signed, err := m.Sign(old, next)
	if err != nil {
		t.Fatal(err)
	}
	look := func() map[string]keyView {
		t.Helper()
		v, err := readKeys(t.Context(), st, "internal")
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]keyView{}
		for _, k := range v.Keys {
			id := k.ID
			k.ID = ""
			all[id] = k
		}
		return all
	}
	if got := look(); len(got) != 0 {
		t.Errorf("of an empty store: %+v", got)
	}
	put(tree.ManifestPath("internal"), signed)
	put(tree.TrustPath("internal", "early"), tree.Encode(tree.Trust{Host: "early", Believed: []string{oldID, nextID}, SignedBy: []string{oldID, nextID}}))
	put(tree.TrustPath("internal", "late"), tree.Encode(tree.Trust{Host: "late", Believed: []string{oldID}, SignedBy: []string{oldID}}))
	if diff := cmp.Diff(map[string]keyView{
		oldID:  {Signs: true, Believe: 2, Stand: 2, Alone: 1},
		nextID: {Signs: true, Believe: 1, Stand: 1, CanLeave: true},
	}, look()); diff != "" {
		t.Error(diff)
	}
	put(tree.TrustPath("internal", "late"), tree.Encode(tree.Trust{Host: "late", Believed: []string{oldID, nextID}, SignedBy: []string{oldID, nextID}}))
	if got := look(); !got[oldID].CanLeave || !got[nextID].CanLeave {
		t.Errorf("%+v", got)
	}
	at := time.UnixMilli(1790000000000)
	line, err := trust.Statement{Void: true, Time: at, Reason: "stolen"}.Sign(old)
	if err != nil {
		t.Fatal(err)
	}
	put(tree.RevocationPath(oldID), []byte(line))
	for _, host := range []string{"early", "late"} {
		put(tree.TrustPath("internal", host), tree.Encode(tree.Trust{Host: host, Believed: []string{nextID}, Revoked: []tree.RevokedKey{{ID: oldID, Void: true, Why: "x"}}, SignedBy: []string{nextID}}))
	}
	if diff := cmp.Diff(map[string]keyView{
		oldID:  {Signs: true, Refuse: 2, Revoked: "void since 2026-09-21T14:13:20Z: stolen"},
		nextID: {Signs: true, Believe: 2, Stand: 2, Alone: 2},
	}, look()); diff != "" {
		t.Error(diff)
	}
}

// TestRevokeInThePlaceOfAnother: who has the store puts the revocation of a key that nobody has
// where that of a stolen one belongs. It is not taken for that.
func TestRevokeInThePlaceOfAnother(t *testing.T) {
	st := memstore.New()
	defer st.Close()
	sign := func(seed byte, void bool) (trust.Statement, string) {
		t.Helper()
		line, err := trust.Statement{Void: void, Time: time.UnixMilli(1790000000000)}.Sign(ed25519.NewKeyFromSeed(append(make([]byte, ed25519.SeedSize-1), seed)))
		if err != nil {
			t.Fatal(err)
		}
		s, err := trust.ParseStatement(line)
		if err != nil {
			t.Fatal(err)
		}
		return s, line
	}
	retired, retiredLine := sign(1, false)
	stolen, stolenLine := sign(1, true)
	_, other := sign(2, true)
	path := tree.RevocationPath(stolen.ID())
	if _, err := st.Commit(t.Context(), store.Txn{Do: []store.Op{{Path: path, Value: []byte(other)}}}); err != nil {
		t.Fatal(err)
	}
	all, err := readRevocations(t.Context(), st)
	if err != nil || len(all) != 1 || all[0].ID != stolen.ID() || !strings.Contains(all[0].Problem, "it revokes key") {
		t.Errorf("%+v, %v", all, err)
	}
	for _, step := range []struct {
		s            trust.Statement
		line         string
		already, has string
	}{
		{retired, retiredLine, "is revoked:", retiredLine},
		{stolen, stolenLine, "is revoked:", stolenLine},
		{stolen, stolenLine, "already", stolenLine},
		{retired, retiredLine, "already", stolenLine},
	} {
		said, err := revoke(t.Context(), st, step.s, step.line, "alice")
		if err != nil || !strings.Contains(said, step.already) {
			t.Errorf("%q, %v, expected %q", said, err, step.already)
		}
		if n, err := st.Get(t.Context(), path); err != nil || string(n.Value) != step.has {
			t.Errorf("the store has %q, %v, expected %q", n.Value, err, step.has)
		}
	}
}

// TestRevocationsAreInTheAudit: who revoked a key, and who took that back, is in the audit, with
// the revocation in one transaction; what changes nothing leaves none.
func TestRevocationsAreInTheAudit(t *testing.T) {
	st := memstore.New()
	defer st.Close()
	key, err := snapshot.LoadOrCreateKey(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	line, err := trust.Statement{Time: time.UnixMilli(1_790_000_000_000), Reason: "replaced in time"}.Sign(key)
	if err != nil {
		t.Fatal(err)
	}
	s, err := trust.ParseStatement(line)
	if err != nil {
		t.Fatal(err)
	}
	audited := func(want ...string) {
		t.Helper()
		nodes, _, err := st.List(t.Context(), tree.Audit)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, n := range nodes {
			var e tree.AuditEntry
			if err := tree.Decode(n, &e); err != nil {
				t.Fatal(err)
			}
			got = append(got, strings.Join([]string{e.Action, e.Subject, e.Author, e.Reason, e.Text}, "|"))
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("in the audit is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	if said, err := revoke(t.Context(), st, s, line, "alice"); err != nil || !strings.Contains(said, "is revoked: retired since") {
		t.Fatalf("%q, %v", said, err)
	}
	revoked := "key revoked|" + s.ID() + "|alice|replaced in time|" + s.String()
	audited(revoked)
	if said, err := revoke(t.Context(), st, s, line, "bob"); err != nil || !strings.Contains(said, "already") {
		t.Fatalf("%q, %v", said, err)
	}
	audited(revoked)
	time.Sleep(2 * time.Millisecond) // entries are in order of time
	if err := unrevoke(t.Context(), st, s.ID(), changeOptions{Author: "bob", Reason: "the wrong one"}); err != nil {
		t.Fatal(err)
	}
	audited(revoked, "key unrevoked|"+s.ID()+"|bob|the wrong one|the store forgot: "+s.String())
	if err := unrevoke(t.Context(), st, s.ID(), changeOptions{}); err == nil || !strings.Contains(err.Error(), "has no revocation") {
		t.Errorf("%v", err)
	}
}
