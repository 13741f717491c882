package snapshot

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
)

// An encoded manifest is (docs/format/manifest.md; integers are big endian, varints
// unsigned, as encoding/binary has them):
//
//	format      u8      2
//	length      u16     octets of the payload
//	payload             what is signed
//	signatures  u8      1 to 4; each: first 8 octets of the key's SHA-256, 64 octets of signature
//	files               the rest: the list of files, JSON; may be missing
//
// and its payload:
//
//	dataset     u8 length, octets
//	version     varint
//	time        varint  unix milliseconds
//	digest      32 octets
//	chain       32 octets
//	content     varint
//	oldest      varint
//	signed      varint  unix milliseconds; 0: it does not say
//	valid until varint  likewise
//	files       u8      0: no list of files; 32: its SHA-256 follows
//	                    what follows is of later programs, and ignored
//
// The list of files says where snapshot and large deltas are, which hosts need seldom. It lies beside
// the manifest, so that a new version does not bring it to every host anew.

// MaxManifest bounds an encoded manifest with its list of files, in octets.
const MaxManifest = 64 << 10

// manifestFormat is the first octet. Fields may be added at the end of a payload, and are
// ignored by those who do not know them.
const manifestFormat = 2

// manifestDomain stands before the payload that is signed, so that the key's
// signature on anything else is none on a manifest.
const manifestDomain = "zonecast manifest v2\x00"

const keyIDSize = 8 // octets of what KeyID gives as text

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

// fileList is what lies beside the manifest.
type fileList struct {
	// Snapshot is nil when there is none.
	Snapshot *Ref       `json:"snapshot,omitempty"`
	Deltas   []DeltaRef `json:"deltas,omitempty"`
}

// files encodes what the manifest says of files; nil: nothing.
func (m *Manifest) files() ([]byte, error) {
	o := fileList{Deltas: m.Deltas}
	if !m.Snapshot.ID.IsZero() {
		o.Snapshot = &m.Snapshot
	}
	if o.Snapshot == nil && len(o.Deltas) == 0 {
		return nil, nil
	}
	return compactJSON(o)
}

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

// envelope is an encoded manifest, taken apart. Its parts are those of the octets it was made of.
type envelope struct {
	payload    []byte
	signatures []signature
	files      []byte // empty: it is not here
}

// maxSignatures bounds an envelope's: four keys, while the publisher's changes.
const maxSignatures = 4

// signature is one key's.
type signature struct {
	key   [keyIDSize]byte
	value [ed25519.SignatureSize]byte
}

func (s signature) id() string { return hex.EncodeToString(s.key[:]) }

func (e envelope) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(append(b, manifestFormat), uint16(len(e.payload)))
	b = append(b, e.payload...)
	b = append(b, byte(len(e.signatures)))
	for _, s := range e.signatures {
		b = append(append(b, s.key[:]...), s.value[:]...)
	}
	return append(b, e.files...)
}

// payload is what is signed, with the hash of the list of files, unless that is empty.
func (m *Manifest) payload(files []byte) []byte {
	b := append([]byte{byte(len(m.Dataset))}, m.Dataset...)
	b = binary.AppendUvarint(b, m.Version)
	b = binary.AppendUvarint(b, uint64(m.Time))
	b = append(b, m.Digest[:]...)
	b = append(b, m.Chain[:]...)
	b = binary.AppendUvarint(b, m.Content)
	b = binary.AppendUvarint(b, m.Oldest)
	b = binary.AppendUvarint(b, uint64(m.Signed))
	b = binary.AppendUvarint(b, uint64(m.ValidUntil))
	if len(files) == 0 {
		return append(b, 0)
	}
	sum := sha256.Sum256(files)
	return append(append(b, sha256.Size), sum[:]...)
}

// Sign encodes the manifest with its signatures and its list of files (docs/format/manifest.md): one key's,
// and those of others, three at most, that hosts may know in its place.
func (m *Manifest) Sign(key ed25519.PrivateKey, also ...ed25519.PrivateKey) ([]byte, error) {
	if err := m.Check(); err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	b, err := m.sign(append([]ed25519.PrivateKey{key}, also...))
	if err != nil {
		return nil, fmt.Errorf("sign manifest %d of %s: %w", m.Version, m.Dataset, err)
	}
	return b, nil
}

func (m *Manifest) sign(keys []ed25519.PrivateKey) ([]byte, error) {
	if len(keys) > maxSignatures {
		return nil, fmt.Errorf("%d keys, at most %d", len(keys), maxSignatures)
	}
	files, err := m.files()
	if err != nil {
		return nil, err
	}
	e := envelope{payload: m.payload(files), files: files}
	for _, k := range keys {
		if len(k) != ed25519.PrivateKeySize {
			return nil, fmt.Errorf("private key has %d octets, expected %d", len(k), ed25519.PrivateKeySize)
		}
		e.signatures = append(e.signatures, sign(k, e.payload))
	}
	b := e.append(nil)
	if len(b) > MaxManifest {
		return nil, fmt.Errorf("it has %d octets with its list of files, at most %d", len(b), MaxManifest)
	}
	return b, nil
}

// sign gives a key's signature of a payload.
func sign(key ed25519.PrivateKey, payload []byte) (s signature) {
	sum := sha256.Sum256(key.Public().(ed25519.PublicKey))
	copy(s.key[:], sum[:])
	copy(s.value[:], ed25519.Sign(key, append([]byte(manifestDomain), payload...)))
	return s
}

// VerifyManifest decodes a manifest that one of the keys has signed. No keys
// refuse everything. Without its list of files it names none.
func VerifyManifest(b []byte, keys []ed25519.PublicKey) (*Manifest, error) {
	e, err := openEnvelope(b)
	if err == nil {
		err = e.verify(keys)
	}
	var m *Manifest
	if err == nil {
		m, err = e.manifest()
	}
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
	for _, s := range e.signatures {
		ids = append(ids, s.id())
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
	for _, s := range e.signatures {
		id := s.id()
		holds := slices.ContainsFunc(keys, func(key ed25519.PublicKey) bool { return KeyID(key) == id && e.check(s, key) == nil })
		if holds && !slices.Contains(ids, id) {
			ids = append(ids, id)
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
	var m *Manifest
	if err == nil {
		m, err = e.manifest()
	}
	if err != nil {
		return nil, fmt.Errorf("decode manifest: %w", err)
	}
	return m, nil
}

// Detach parts an encoded manifest from its list of files, which is nil when it has none. What is no
// manifest is given as it is.
func Detach(b []byte) (signed, files []byte) {
	e, err := openEnvelope(b)
	if err != nil || len(e.files) == 0 {
		return b, nil
	}
	n := len(b) - len(e.files)
	return b[:n:n], e.files
}

// Attach puts a manifest and its list of files together again. A manifest that has none, and one
// whose list is there, is given as it is. Another list than the one that was signed is an error.
func Attach(signed, files []byte) ([]byte, error) {
	e, err := openEnvelope(signed)
	if err != nil {
		return nil, fmt.Errorf("decode manifest: %w", err)
	}
	_, sum, err := parsePayload(e.payload)
	switch {
	case err != nil:
		return nil, fmt.Errorf("decode manifest: payload: %w", err)
	case sum == nil || len(e.files) > 0:
		return signed, nil
	case len(files) == 0:
		return nil, fmt.Errorf("list of files with sha256 %x… is missing beside the manifest", sum[:6])
	}
	if got := sha256.Sum256(files); !bytes.Equal(got[:], sum) {
		return nil, fmt.Errorf("list of files beside the manifest has sha256 %x…, signed is %x…", got[:6], sum[:6])
	}
	whole := append(bytes.Clone(signed), files...)
	if len(whole) > MaxManifest {
		return nil, fmt.Errorf("manifest has %d octets with its list of files, at most %d", len(whole), MaxManifest)
	}
	return whole, nil
}

// openEnvelope takes an encoded manifest apart.
func openEnvelope(b []byte) (e envelope, err error) {
	switch {
	case len(b) == 0:
		return e, errors.New("it is empty")
	case len(b) > MaxManifest:
		return e, fmt.Errorf("it has %d octets, at most %d", len(b), MaxManifest)
	case b[0] == '{':
		return e, errors.New("it is JSON, format 1, which this program does not read: a publisher older than this program wrote it, upgrade that")
	case b[0] != manifestFormat && b[0] < ' ':
		return e, fmt.Errorf("format is %d, this program reads %d: a publisher newer than this program wrote it, upgrade this one", b[0], manifestFormat)
	case b[0] != manifestFormat:
		return e, fmt.Errorf("it begins with %.20q, expected the octet %d", b, manifestFormat)
	}
	rest := b[1:]
	take := func(n int) []byte {
		if n > len(rest) {
			err = fmt.Errorf("it ends after %d octets, which is too soon", len(b))
			return make([]byte, n)
		}
		v := rest[:n:n]
		rest = rest[n:]
		return v
	}
	e.payload = take(int(binary.BigEndian.Uint16(take(2))))
	n := int(take(1)[0])
	if err == nil && (n < 1 || n > maxSignatures) {
		err = fmt.Errorf("it has %d signatures, expected 1 to %d", n, maxSignatures)
	}
	if err != nil {
		return envelope{}, err
	}
	e.signatures = make([]signature, n)
	for i := range e.signatures {
		copy(e.signatures[i].key[:], take(keyIDSize))
		copy(e.signatures[i].value[:], take(ed25519.SignatureSize))
	}
	e.files = rest
	return e, err
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
		for _, s := range e.signatures {
			if s.id() != id {
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
	by := e.signatures[0].id()
	for _, s := range e.signatures[1:] {
		by += " and " + s.id()
	}
	return fmt.Errorf("signed by key %s, expected one of %v", by, known)
}

// check tells why a signature is not one of the key, or nil.
func (e envelope) check(s signature, key ed25519.PublicKey) error {
	if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, append([]byte(manifestDomain), e.payload...), s.value[:]) {
		return fmt.Errorf("signature by key %s does not hold", s.id())
	}
	return nil
}

// manifest reads payload and, if it is here, list of files.
func (e envelope) manifest() (*Manifest, error) {
	m, sum, err := parsePayload(e.payload)
	if err != nil {
		return nil, fmt.Errorf("payload: %w", err)
	}
	if len(e.files) == 0 {
		return m, m.Check()
	}
	if got := sha256.Sum256(e.files); !bytes.Equal(got[:], sum) {
		return nil, fmt.Errorf("list of files has sha256 %x…, signed is %x", got[:6], sum[:min(6, len(sum))])
	}
	var o fileList
	if err := json.Unmarshal(e.files, &o); err != nil {
		return nil, fmt.Errorf("list of files: %w", err)
	}
	if o.Snapshot != nil && !o.Snapshot.ID.IsZero() {
		m.Snapshot = *o.Snapshot
	}
	m.Deltas = o.Deltas
	return m, m.Check()
}

// parsePayload reads what is signed. sum is that of the list of files; nil: there is none.
func parsePayload(b []byte) (m *Manifest, sum []byte, err error) {
	size := len(b)
	fail := func() { err = fmt.Errorf("it ends after %d octets, which is too soon", size) }
	take := func(n int) []byte {
		if n > len(b) {
			fail()
			return make([]byte, n)
		}
		v := b[:n:n]
		b = b[n:]
		return v
	}
	number := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			fail()
			b = nil
			return 0
		}
		b = b[n:]
		return v
	}
	m = &Manifest{Dataset: string(take(int(take(1)[0])))}
	m.Version, m.Time = number(), int64(number())
	copy(m.Digest[:], take(len(m.Digest)))
	copy(m.Chain[:], take(len(m.Chain)))
	m.Content, m.Oldest, m.Signed, m.ValidUntil = number(), number(), int64(number()), int64(number())
	switch n := int(take(1)[0]); n {
	case 0:
	case sha256.Size:
		sum = take(n)
	default:
		return nil, nil, fmt.Errorf("hash of the list of files has %d octets, expected 0 or %d", n, sha256.Size)
	}
	if err != nil {
		return nil, nil, err
	}
	return m, sum, nil
}
