package snapshot

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
)

// MaxManifest bounds an encoded manifest, in octets.
const MaxManifest = 64 << 10

// manifestFormat is the version of the payload. Fields may be added to a version
// and are ignored by those who do not know them.
const manifestFormat = 1

// manifestDomain stands before the payload that is signed, so that the key's
// signature on anything else is none on a manifest.
const manifestDomain = "zonecast manifest v1\x00"

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
	// Deltas are those of the log that are had as files as well, the newest first: large ones,
	// which the store need not give to every host. Who cannot fetch one reads its parts there.
	Deltas []DeltaRef `json:"deltas,omitempty"`
	// Signed is when it was signed, and ValidUntil until when somebody should have signed
	// another, unix milliseconds by the signer's clock. Zero: it does not say. Neither
	// decides what is served: a manifest past its time is an alarm, not a refusal.
	Signed     int64 `json:"signed_ms,omitempty"`
	ValidUntil int64 `json:"valid_until_ms,omitempty"`
}

// MaxDeltaRefs bounds Manifest.Deltas.
const MaxDeltaRefs = 4

// DeltaRef points at an encoded delta as a file. Its id is its chain value, which is the SHA-256 of
// its octets.
type DeltaRef struct {
	Version uint64   `json:"version"`
	Chain   Chain    `json:"chain"`
	Size    int64    `json:"size"` // octets
	URLs    []string `json:"urls,omitempty"`
	Torrent string   `json:"torrent,omitempty"` // as in Ref
}

// File is what fetches it.
func (r DeltaRef) File() Ref {
	return Ref{ID: ID(r.Chain), Size: r.Size, Version: r.Version, Chain: r.Chain, URLs: r.URLs, Torrent: r.Torrent}
}

// IsDelta tells whether a reference is one of a delta: no snapshot has its chain value as its id.
func (r Ref) IsDelta() bool { return ID(r.Chain) == r.ID }

func (m *Manifest) checkDeltas() error {
	if len(m.Deltas) > MaxDeltaRefs {
		return fmt.Errorf("manifest %d of %s: %d deltas as files, at most %d", m.Version, m.Dataset, len(m.Deltas), MaxDeltaRefs)
	}
	before := m.Version + 1
	for _, d := range m.Deltas {
		switch {
		case d.Version < 1 || d.Version >= before:
			return fmt.Errorf("manifest %d of %s: delta of version %d as a file, expected 1 to %d: the newest first", m.Version, m.Dataset, d.Version, before-1)
		case d.Size < 1 || d.Size > MaxDelta:
			return fmt.Errorf("manifest %d of %s: delta %d has %d octets, expected 1 to %d", m.Version, m.Dataset, d.Version, d.Size, MaxDelta)
		case d.Torrent != "" && !isTorrent(d.Torrent):
			return fmt.Errorf("manifest %d of %s: delta %d has the torrent %.80q, expected 40 lower-case hexadecimal digits", m.Version, m.Dataset, d.Version, d.Torrent)
		}
		before = d.Version
	}
	return nil
}

// Check tells why the manifest contradicts itself, or nil.
func (m *Manifest) Check() error {
	if err := CheckName(m.Dataset); err != nil {
		return err
	}
	if err := m.checkDeltas(); err != nil {
		return err
	}
	s := m.Snapshot
	switch {
	case m.Version == 0:
		return fmt.Errorf("manifest of %s has version 0, expected 1 or more", m.Dataset)
	case m.Content > m.Version:
		return fmt.Errorf("manifest %d of %s: content changed in version %d, expected %d or before", m.Version, m.Dataset, m.Content, m.Version)
	case m.Signed < 0 || m.ValidUntil < 0 || m.ValidUntil > 0 && m.ValidUntil < m.Signed:
		return fmt.Errorf("manifest %d of %s: signed at %d and valid until %d, expected 0 or more and the second not before the first", m.Version, m.Dataset, m.Signed, m.ValidUntil)
	case m.Oldest > m.Version:
		return fmt.Errorf("manifest %d of %s: oldest delta is %d, expected %d or before", m.Version, m.Dataset, m.Oldest, m.Version)
	case s.ID.IsZero():
		return nil
	case s.Version > m.Version || s.Version == 0:
		return fmt.Errorf("manifest %d of %s: snapshot is of version %d, expected 1 to %d", m.Version, m.Dataset, s.Version, m.Version)
	case s.Version == m.Version && (s.Digest != m.Digest || s.Chain != m.Chain || s.Time != m.Time):
		return fmt.Errorf("manifest %d of %s: snapshot of the same version has digest %s, chain %s, time %d, expected %s, %s, %d",
			m.Version, m.Dataset, s.Digest, s.Chain, s.Time, m.Digest, m.Chain, m.Time)
	case s.Torrent != "" && !isTorrent(s.Torrent):
		return fmt.Errorf("manifest %d of %s: snapshot has the torrent %.80q, expected 40 lower-case hexadecimal digits", m.Version, m.Dataset, s.Torrent)
	case s.Size < 1:
		return fmt.Errorf("manifest %d of %s: snapshot has %d octets, expected more", m.Version, m.Dataset, s.Size)
	}
	return nil
}

// isTorrent tells whether text is an info hash.
func isTorrent(text string) bool {
	b, err := hex.DecodeString(text)
	return err == nil && len(b) == 20 && hex.EncodeToString(b) == text
}

// payload is what is signed.
type payload struct {
	Format int `json:"format"`
	Manifest
}

// envelope is what is stored.
type envelope struct {
	Payload   string `json:"payload"`   // JSON of payload
	Key       string `json:"key"`       // KeyID
	Signature string `json:"signature"` // base64 (RFC 4648 §4) of 64 octets
	// Also has the same of further keys, for the time in which the publisher's key changes.
	Also []signature `json:"also,omitempty"`
}

// maxAlso bounds the signatures beside the first.
const maxAlso = 3

// signature is one beside the first.
type signature struct {
	Key       string `json:"key"`
	Signature string `json:"signature"`
}

// all has the first signature and the others.
func (e envelope) all() []signature {
	return append([]signature{{e.Key, e.Signature}}, e.Also...)
}

func (e envelope) encode() ([]byte, error) { return compactJSON(e) }

// compactJSON is encoding/json without its escapes for HTML.
func compactJSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// Sign encodes the manifest with its signatures (docs/format/manifest.md): one key's, and
// those of others, three at most, that hosts may know in its place.
func (m *Manifest) Sign(key ed25519.PrivateKey, also ...ed25519.PrivateKey) ([]byte, error) {
	if err := m.Check(); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	if len(also) > maxAlso {
		return nil, fmt.Errorf("sign manifest %d of %s: %d further keys, at most %d", m.Version, m.Dataset, len(also), maxAlso)
	}
	for _, k := range append([]ed25519.PrivateKey{key}, also...) {
		if len(k) != ed25519.PrivateKeySize {
			return nil, fmt.Errorf("sign manifest %d of %s: private key has %d octets, expected %d", m.Version, m.Dataset, len(k), ed25519.PrivateKeySize)
		}
	}
	text, err := compactJSON(payload{manifestFormat, *m})
	if err != nil {
		return nil, fmt.Errorf("sign manifest %d of %s: %w", m.Version, m.Dataset, err)
	}
	id := func(k ed25519.PrivateKey) string { return KeyID(k.Public().(ed25519.PublicKey)) }
	e := envelope{Payload: string(text), Key: id(key), Signature: sign(key, string(text))}
	for _, k := range also {
		e.Also = append(e.Also, signature{id(k), sign(k, string(text))})
	}
	b, err := e.encode()
	if err == nil && len(b) > MaxManifest {
		err = fmt.Errorf("it has %d octets, at most %d", len(b), MaxManifest)
	}
	if err != nil {
		return nil, fmt.Errorf("sign manifest %d of %s: %w", m.Version, m.Dataset, err)
	}
	return b, nil
}

// sign gives the text of a payload's signature.
func sign(key ed25519.PrivateKey, text string) string {
	return base64.StdEncoding.EncodeToString(ed25519.Sign(key, append([]byte(manifestDomain), text...)))
}

// VerifyManifest decodes a manifest that one of the keys has signed. No keys
// refuse everything.
func VerifyManifest(b []byte, keys []ed25519.PublicKey) (*Manifest, error) {
	e, err := openEnvelope(b)
	if err != nil {
		return nil, fmt.Errorf("verify manifest: %w", err)
	}
	if err := e.verify(keys); err != nil {
		return nil, fmt.Errorf("verify manifest: %w", err)
	}
	m, err := e.manifest()
	if err != nil {
		return nil, fmt.Errorf("verify manifest: %w", err)
	}
	return m, nil
}

// SignedBy gives the ids of the keys that an encoded manifest says signed it, whether
// that is true or not; none of what is no manifest.
func SignedBy(b []byte) []string {
	e, err := openEnvelope(b)
	if err != nil {
		return nil
	}
	var ids []string
	for _, s := range e.all() {
		ids = append(ids, s.Key)
	}
	return ids
}

// SignersOf gives the ids of those of the keys that have signed an encoded manifest, in its
// order; none of what is no manifest. What it says of keys that are not among these is not in
// it: whoever writes a manifest can claim any.
func SignersOf(b []byte, keys []ed25519.PublicKey) []string {
	e, err := openEnvelope(b)
	if err != nil {
		return nil
	}
	var ids []string
	for _, s := range e.all() {
		holds := slices.ContainsFunc(keys, func(key ed25519.PublicKey) bool { return KeyID(key) == s.Key && e.check(s, key) == nil })
		if holds && !slices.Contains(ids, s.Key) {
			ids = append(ids, s.Key)
		}
	}
	return ids
}

// VerifyKept is VerifyManifest for one that was verified when it was written down: another key
// is known since, perhaps, and what was claimed in its name then does not take away what holds.
func VerifyKept(b []byte, keys []ed25519.PublicKey) (*Manifest, error) {
	if ids := SignersOf(b, keys); len(ids) > 0 {
		keys = slices.DeleteFunc(slices.Clone(keys), func(key ed25519.PublicKey) bool { return !slices.Contains(ids, KeyID(key)) })
	}
	return VerifyManifest(b, keys)
}

// DecodeManifest decodes a manifest without looking at its signature: for those
// who trust where they have it from.
func DecodeManifest(b []byte) (*Manifest, error) {
	e, err := openEnvelope(b)
	if err != nil {
		return nil, fmt.Errorf("decode manifest: %w", err)
	}
	m, err := e.manifest()
	if err != nil {
		return nil, fmt.Errorf("decode manifest: %w", err)
	}
	return m, nil
}

// openEnvelope takes one form only, the one that encode gives: what is stored
// cannot be changed without breaking it.
func openEnvelope(b []byte) (envelope, error) {
	var e envelope
	if len(b) > MaxManifest {
		return e, fmt.Errorf("it has %d octets, at most %d", len(b), MaxManifest)
	}
	if err := json.Unmarshal(b, &e); err != nil {
		return e, fmt.Errorf("envelope: %w", err)
	}
	again, err := e.encode()
	if err != nil {
		return e, fmt.Errorf("envelope: %w", err)
	}
	if !bytes.Equal(again, b) {
		return e, fmt.Errorf("envelope is not in its one form: compact, payload, key and signature in this order, nothing else but also")
	}
	if len(e.Also) > maxAlso {
		return e, fmt.Errorf("envelope has %d further signatures, at most %d", len(e.Also), maxAlso)
	}
	return e, nil
}

// verify takes the first key that is ours and signed. A signature of ours that does not
// hold is an error whatever the others say.
func (e envelope) verify(keys []ed25519.PublicKey) error {
	var known []string
	signed := false
	for _, key := range keys {
		if len(key) != ed25519.PublicKeySize {
			return fmt.Errorf("public key has %d octets, expected %d", len(key), ed25519.PublicKeySize)
		}
		id := KeyID(key)
		known = append(known, id)
		for _, s := range e.all() {
			if s.Key != id {
				continue
			}
			if err := e.check(s, key); err != nil {
				return err
			}
			signed = true
		}
	}
	if signed {
		return nil
	}
	others := ""
	for _, s := range e.Also {
		others += fmt.Sprintf(" and %.40q", s.Key)
	}
	return fmt.Errorf("signed by key %.40q%s, expected one of %v", e.Key, others, known)
}

// check tells why a signature is not one of the key, or nil.
func (e envelope) check(s signature, key ed25519.PublicKey) error {
	octets, err := base64.StdEncoding.Strict().DecodeString(s.Signature)
	if err != nil {
		return fmt.Errorf("signature: %w", err)
	}
	if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, append([]byte(manifestDomain), e.Payload...), octets) {
		return fmt.Errorf("signature by key %s does not hold", s.Key)
	}
	return nil
}

func (e envelope) manifest() (*Manifest, error) {
	var p payload
	if err := json.Unmarshal([]byte(e.Payload), &p); err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	if p.Format != manifestFormat {
		return nil, fmt.Errorf("payload has format %d, expected %d", p.Format, manifestFormat)
	}
	return &p.Manifest, p.Manifest.Check()
}
