package journal

import (
	"crypto/ed25519"
	"slices"

	"github.com/zonecast/zonecast/snapshot"
)

// Keys gives the keys that are believed now. It is called before each use, by any
// goroutine, and gives the same set for as long as nothing changed.
type Keys func() *KeySet

// KeySet is whose signatures hold. It is not changed once made. An empty set believes
// nothing.
type KeySet struct {
	// Believed are the keys whose signature makes something new believed.
	Believed []ed25519.PublicKey
	// Revoked were believed. What they signed in a journal stays readable, so that a host
	// goes on serving it; nothing new is taken from them.
	Revoked []Revoked
}

// Revoked is a key that is not believed any more.
type Revoked struct {
	Key ed25519.PublicKey
	// Void means that what it alone signed may be left for something older that a
	// believed key signed: it was in the wrong hands.
	Void bool
	Why  string
}

// Fixed is a set that never changes. Without keys nothing is believed.
func Fixed(keys ...ed25519.PublicKey) Keys {
	s := &KeySet{Believed: slices.Clone(keys)}
	return func() *KeySet { return s }
}

// Known are the keys whose signatures in a journal hold: those believed, and those revoked.
func (s *KeySet) Known() []ed25519.PublicKey {
	all := slices.Clone(s.Believed)
	for _, r := range s.Revoked {
		all = append(all, r.Key)
	}
	return all
}

// Find gives the revoked key with an id.
func (s *KeySet) Find(id string) (Revoked, bool) {
	for _, r := range s.Revoked {
		if snapshot.KeyID(r.Key) == id {
			return r, true
		}
	}
	return Revoked{}, false
}

// Adds tells whether the set believes a key that another, nil for none, did not.
func (s *KeySet) Adds(to *KeySet) bool {
	return s != to && slices.ContainsFunc(s.Believed, func(k ed25519.PublicKey) bool {
		return to == nil || !slices.ContainsFunc(to.Believed, func(other ed25519.PublicKey) bool { return other.Equal(k) })
	})
}

// SignedBy gives the ids of the keys, believed or revoked, that have signed a manifest.
func (s *KeySet) SignedBy(manifest []byte) []string { return snapshot.SignersOf(manifest, s.Known()) }

// Void tells whether what keys with these ids signed is void: one of them is revoked so, and
// no other that is known is not.
func (s *KeySet) Void(ids []string) bool {
	return s.revoked(ids, func(r Revoked) bool { return r.Void })
}

// AllRevoked tells whether each of the keys with these ids that are known is revoked.
func (s *KeySet) AllRevoked(ids []string) bool {
	return s.revoked(ids, func(Revoked) bool { return true })
}

// revoked leaves out keys that are not known: anybody can claim their signature.
func (s *KeySet) revoked(ids []string, so func(Revoked) bool) bool {
	some := false
	for _, id := range ids {
		if r, revoked := s.Find(id); revoked && so(r) {
			some = true
		} else if revoked || slices.ContainsFunc(s.Believed, func(k ed25519.PublicKey) bool { return snapshot.KeyID(k) == id }) {
			return false
		}
	}
	return some
}

// Equal tells whether two sets believe and revoke the same, in the same order.
func (s *KeySet) Equal(other *KeySet) bool {
	same := func(a, b ed25519.PublicKey) bool { return a.Equal(b) }
	return slices.EqualFunc(s.Believed, other.Believed, same) && slices.EqualFunc(s.Revoked, other.Revoked, func(a, b Revoked) bool {
		return a.Void == b.Void && a.Why == b.Why && same(a.Key, b.Key)
	})
}

// verify decodes a manifest that is in a journal; nil keys look at no signature.
func (k Keys) verify(b []byte) (*snapshot.Manifest, error) {
	if k == nil {
		return snapshot.DecodeManifest(b)
	}
	return snapshot.VerifyKept(b, k().Known())
}

// signedBy are the ids of the keys that signed a manifest; nil keys take its word.
func (k Keys) signedBy(b []byte) []string {
	if k == nil {
		return snapshot.SignedBy(b)
	}
	return k().SignedBy(b)
}

// isVoid tells whether what a manifest covers is void.
func (k Keys) isVoid(manifest []byte) bool {
	if k == nil || len(manifest) == 0 {
		return false
	}
	set := k()
	return set.Void(set.SignedBy(manifest))
}
