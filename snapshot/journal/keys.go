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

// Void tells whether what keys with these ids signed is void: each of them is revoked so.
func (s *KeySet) Void(ids []string) bool {
	for _, id := range ids {
		if r, revoked := s.Find(id); !revoked || !r.Void {
			return false
		}
	}
	return len(ids) > 0
}

// Equal tells whether two sets believe and revoke the same, in the same order.
func (s *KeySet) Equal(other *KeySet) bool {
	same := func(a, b ed25519.PublicKey) bool { return a.Equal(b) }
	return slices.EqualFunc(s.Believed, other.Believed, same) && slices.EqualFunc(s.Revoked, other.Revoked, func(a, b Revoked) bool {
		return a.Void == b.Void && a.Why == b.Why && same(a.Key, b.Key)
	})
}

// AllRevoked tells whether each of the keys with these ids is revoked.
func (s *KeySet) AllRevoked(ids []string) bool {
	for _, id := range ids {
		if _, revoked := s.Find(id); !revoked {
			return false
		}
	}
	return len(ids) > 0
}

// verify decodes a manifest that is in a journal; nil keys look at no signature.
func (k Keys) verify(b []byte) (*snapshot.Manifest, error) {
	if k == nil {
		return snapshot.DecodeManifest(b)
	}
	return snapshot.VerifyManifest(b, k().Known())
}
