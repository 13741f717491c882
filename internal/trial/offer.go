package trial

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/reconcile"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

const (
	// MaxDelta bounds the delta of a trial, in octets: what rings of hosts fetch from the store.
	MaxDelta = 16 << 20
	// MaxOffer bounds a signed offer.
	MaxOffer = 32 << 10
	// maxSignatures is how many are looked at.
	maxSignatures = 4
	// domain stands before what is signed, so that the key's signature on anything else is none
	// on an offer.
	domain = "zonecast trial v1\x00"
	format = 1
)

// Offer is what a publisher signs, and a host takes.
type Offer struct {
	Dataset string `json:"dataset"`
	ID      string `json:"id"`
	Number  uint64 `json:"number"`
	Base    uint64 `json:"base"`
	Rings   []Ring `json:"rings"` // whose hosts it is for
	Time    int64  `json:"time_ms"`
	Until   int64  `json:"until_ms"` // hosts drop it then
	Size    int    `json:"size"`
	SHA256  string `json:"sha256"`
}

// For tells whether an offer is for a host.
func (o *Offer) For(host string, labels []string) bool {
	return Policy{Rings: o.Rings}.RingOf(host, labels) < len(o.Rings)
}

type payload struct {
	Format int `json:"format"`
	Offer
}

type envelope struct {
	Payload    string      `json:"payload"`
	Signatures []signature `json:"signatures"`
}

type signature struct {
	Key       string `json:"key"`
	Signature string `json:"signature"`
}

// Sign encodes an offer with its signatures: while keys are changed there are two.
func (o *Offer) Sign(keys ...ed25519.PrivateKey) ([]byte, error) {
	text := tree.Encode(payload{format, *o})
	e := envelope{Payload: string(text), Signatures: []signature{}}
	for _, key := range keys {
		if len(key) != ed25519.PrivateKeySize {
			return nil, fmt.Errorf("sign trial %s: private key has %d octets, expected %d", o.ID, len(key), ed25519.PrivateKeySize)
		}
		e.Signatures = append(e.Signatures, signature{
			snapshot.KeyID(key.Public().(ed25519.PublicKey)), base64.StdEncoding.EncodeToString(ed25519.Sign(key, append([]byte(domain), text...))),
		})
	}
	b := tree.Encode(e)
	if len(b) > MaxOffer {
		return nil, fmt.Errorf("sign trial %s: it has %d octets, at most %d: name hosts by labels or shares", o.ID, len(b), MaxOffer)
	}
	return b, nil
}

// Verify decodes an offer that one of the keys has signed for the dataset.
func Verify(b []byte, keys []ed25519.PublicKey, dataset string) (*Offer, error) {
	if len(b) > MaxOffer {
		return nil, fmt.Errorf("verify trial: it has %d octets, at most %d", len(b), MaxOffer)
	}
	var e envelope
	if err := json.Unmarshal(b, &e); err != nil {
		return nil, fmt.Errorf("verify trial: envelope: %w", err)
	}
	if !bytes.Equal(tree.Encode(e), b) {
		return nil, errors.New("verify trial: envelope is not in its one form")
	}
	if err := e.verify(keys); err != nil {
		return nil, fmt.Errorf("verify trial: %w", err)
	}
	var p payload
	if err := json.Unmarshal([]byte(e.Payload), &p); err != nil {
		return nil, fmt.Errorf("verify trial: payload: %w", err)
	}
	switch {
	case p.Format != format:
		return nil, fmt.Errorf("verify trial: payload has format %d, expected %d", p.Format, format)
	case p.Dataset != dataset:
		return nil, fmt.Errorf("verify trial: it is of dataset %.70q, expected %q", p.Dataset, dataset)
	case p.Size < 1 || p.Size > MaxDelta:
		return nil, fmt.Errorf("verify trial %.40s: delta has %d octets, expected 1 to %d", p.ID, p.Size, MaxDelta)
	case len(p.Rings) == 0 || len(p.Rings) > MaxRings:
		return nil, fmt.Errorf("verify trial %.40s: it is for %d rings, expected 1 to %d", p.ID, len(p.Rings), MaxRings)
	}
	return &p.Offer, nil
}

// verify tells why none of the keys has signed it, or nil.
func (e *envelope) verify(keys []ed25519.PublicKey) error {
	var by []string
	for _, s := range e.Signatures[:min(len(e.Signatures), maxSignatures)] {
		by = append(by, fmt.Sprintf("%.40s", s.Key))
		for _, key := range keys {
			if len(key) != ed25519.PublicKeySize || snapshot.KeyID(key) != s.Key {
				continue
			}
			b, err := base64.StdEncoding.Strict().DecodeString(s.Signature)
			if err != nil {
				return fmt.Errorf("signature by key %s: %w", s.Key, err)
			}
			if !ed25519.Verify(key, append([]byte(domain), e.Payload...), b) {
				return fmt.Errorf("signature by key %s does not hold", s.Key)
			}
			return nil
		}
	}
	return fmt.Errorf("signed by keys %q, none of which is believed here", by)
}

// maxAhead is how far from now an offer may reach: an old one that is put back does not hold
// for ever.
const maxAhead = maxSoak * MaxRings

// InTime tells why an offer is not to be taken now, or nil.
func (o *Offer) InTime(now time.Time) error {
	until := time.UnixMilli(o.Until)
	switch {
	case !now.Before(until):
		return fmt.Errorf("trial %.40s: its time was over at %s", o.ID, until.UTC().Format(time.RFC3339))
	case until.Sub(now) > maxAhead:
		return fmt.Errorf("trial %.40s: it would end at %s, expected within %v", o.ID, until.UTC().Format(time.RFC3339), maxAhead)
	}
	return nil
}

// Compose makes the delta of a trial of a change on top of a version: what it touches has the
// base digest before, and the digest after. Freshness records are left out.
func Compose(dataset string, base uint64, ch reconcile.Change) ([]byte, error) {
	d := &snapshot.Delta{Dataset: dataset, Version: base}
	for _, r := range ch.Old {
		if !snapshot.IsFreshness(r.Key) {
			d.BaseDigest = d.BaseDigest.Add(snapshot.HashRRset(r))
		}
	}
	for _, r := range ch.Put {
		if !snapshot.IsFreshness(r.Key) {
			d.Put, d.Digest = append(d.Put, r), d.Digest.Add(snapshot.HashRRset(r))
		}
	}
	for _, k := range ch.Remove {
		if !snapshot.IsFreshness(k) {
			d.Remove = append(d.Remove, k)
		}
	}
	b, err := d.Encode()
	if err == nil && len(b) > MaxDelta {
		err = fmt.Errorf("the delta of the trial has %d octets, at most %d", len(b), MaxDelta)
	}
	return b, err
}

// Composes tells whether a trial is composed of a change, whatever version that stands on now.
func (t *Trial) Composes(ch reconcile.Change) bool {
	b, err := Compose(t.Dataset, t.Base, ch)
	return err == nil && len(b) == t.Size && Sum(b) == t.SHA256
}

// Sum is the SHA-256 of a delta, as offers have it.
func Sum(delta []byte) string {
	sum := sha256.Sum256(delta)
	return hex.EncodeToString(sum[:])
}

// Open decodes the delta of an offer and checks that it is the one.
func (o *Offer) Open(encoded []byte) (*snapshot.Delta, error) {
	if sum := Sum(encoded); len(encoded) != o.Size || sum != o.SHA256 {
		return nil, fmt.Errorf("trial %.40s: the delta has %d octets and SHA-256 %s…, expected %d and %.12s…", o.ID, len(encoded), sum[:12], o.Size, o.SHA256)
	}
	d, err := snapshot.DecodeDelta(encoded)
	if err != nil {
		return nil, fmt.Errorf("trial %.40s: %w", o.ID, err)
	}
	var after snapshot.Digest
	for _, r := range d.Put {
		after = after.Add(snapshot.HashRRset(r))
	}
	switch {
	case d.Dataset != o.Dataset || d.Version != o.Base || d.Full:
		return nil, fmt.Errorf("trial %.40s: the delta is of version %d of %s, expected %d of %s, not whole", o.ID, d.Version, d.Dataset, o.Base, o.Dataset)
	case after != d.Digest:
		return nil, fmt.Errorf("trial %.40s: what is put comes out at digest %.12s…, expected %.12s…", o.ID, after, d.Digest)
	}
	return d, nil
}

// PartOps are what puts a delta into the store, in transactions.
func PartOps(dataset string, number uint64, delta []byte) (batches [][]store.Op) {
	const most = 12 // of 64 KiB
	var ops []store.Op
	for i := 0; i*store.MaxValue < len(delta); i++ {
		ops = append(ops, store.Op{Path: tree.TrialPartPath(dataset, number, i), Value: delta[i*store.MaxValue : min(len(delta), (i+1)*store.MaxValue)]})
		if len(ops) == most {
			batches, ops = append(batches, ops), nil
		}
	}
	if len(ops) > 0 {
		batches = append(batches, ops)
	}
	return batches
}

// Parts joins what List gave below tree.TrialPartsPrefix.
func Parts(nodes []store.Node) (delta []byte) {
	for _, n := range nodes { // in the order of paths
		delta = append(delta, n.Value...)
		if len(delta) > MaxDelta {
			return delta // which is not what was signed
		}
	}
	return delta
}

// Touches tells whether a delta changes an RRset that a trial touches.
func Touches(trial, delta *snapshot.Delta) bool {
	keys := make(map[record.Key]bool, len(trial.Put)+len(trial.Remove))
	for _, r := range trial.Put {
		keys[r.Key] = true
	}
	for _, k := range trial.Remove {
		keys[k] = true
	}
	for _, r := range delta.Put {
		if keys[r.Key] {
			return true
		}
	}
	for _, k := range delta.Remove {
		if keys[k] {
			return true
		}
	}
	return false
}
