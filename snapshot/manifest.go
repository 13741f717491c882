package snapshot

import (
	"crypto/ed25519"
	"errors"
)

// MaxManifest bounds an encoded manifest, in octets.
const MaxManifest = 64 << 10

// Manifest is the signed pointer to a dataset's newest version.
type Manifest struct {
	Dataset string `json:"dataset"`
	Version uint64 `json:"version"`
	Time    int64  `json:"time_ms"` // Delta.Time of Version
	Digest  Digest `json:"digest"`
	Chain   Chain  `json:"chain"`
	Content uint64 `json:"content"` // last version that changed more than freshness records
	// Oldest is the oldest delta still in the log; 0 when there is none.
	Oldest uint64 `json:"oldest"`
	// Snapshot is the newest snapshot offered, at Version or before it. A zero ID
	// means that there is none yet: everything is in the log.
	Snapshot Ref `json:"snapshot"`
}

// Sign encodes the manifest with its signature (docs/format/manifest.md).
func (m *Manifest) Sign(key ed25519.PrivateKey) ([]byte, error) { return nil, errors.New("not yet") }

// VerifyManifest decodes a manifest that one of the keys has signed. No keys
// refuse everything.
func VerifyManifest(b []byte, keys []ed25519.PublicKey) (*Manifest, error) {
	return nil, errors.New("not yet")
}

// DecodeManifest decodes a manifest without looking at its signature: for those
// who trust where they have it from.
func DecodeManifest(b []byte) (*Manifest, error) { return nil, errors.New("not yet") }
