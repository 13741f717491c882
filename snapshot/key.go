package snapshot

import (
	"crypto/ed25519"
	"errors"
)

// KeyID names a public key: the first 8 octets of its SHA-256 in hexadecimal.
func KeyID(key ed25519.PublicKey) string { return "" }

// LoadPrivateKey reads a PEM file with one PKCS #8 ed25519 private key. A file
// that others than its owner can read is refused.
func LoadPrivateKey(path string) (ed25519.PrivateKey, error) { return nil, errors.New("not yet") }

// LoadPublicKeys reads a PEM file with one or more ed25519 public keys (PKIX).
func LoadPublicKeys(path string) ([]ed25519.PublicKey, error) { return nil, errors.New("not yet") }

// LoadOrCreateKey reads the private key at path. Where there is none it makes
// one, and path + ".pub" beside it, both atomically: two processes that start at
// once end up with the same key.
func LoadOrCreateKey(path string) (ed25519.PrivateKey, error) { return nil, errors.New("not yet") }
