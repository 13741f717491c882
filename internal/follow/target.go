package follow

import (
	"fmt"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// position is a point of a history.
type position struct {
	version uint64
	chain   snapshot.Chain
}

func positionOf(d *snapshot.Dataset) position { return position{d.Version(), d.Chain()} }

// target is the version to get to: with keys that of a manifest that verified,
// without that of the head.
type target struct {
	position
	digest   snapshot.Digest
	snapshot snapshot.Ref // newest that is offered; zero when there is none
	manifest []byte       // signed; nil without keys
	deltas   []snapshot.DeltaRef
}

// aim makes what the store says the target, where it can be believed. A target once
// believed stays when something worse takes its place in the store.
func (f *Follower) aim() {
	if f.cfg.Keys != nil {
		f.believe()
		f.aimSigned()
	} else {
		f.aimHead()
	}
}

// believe looks whether somebody else is believed than before. What was a target by the
// word of a key that is not believed any more is none; what was taken by the word of keys
// that is void is forgotten: the sink keeps it until something believed takes its place.
func (f *Follower) believe() {
	set := f.cfg.Keys()
	if set == f.believed {
		return
	}
	f.believed, f.judged = set, 0
	f.signers = set.SignedBy(f.under)
	if f.target.manifest != nil {
		if _, err := snapshot.VerifyManifest(f.target.manifest, set.Believed); err != nil {
			f.abandon()
			f.target = target{}
			f.forgetPending()
		}
	}
	if set.Void(f.cfg.FloorSignedBy) {
		f.cfg.Floor = 0
	}
	if set.Void(f.signers) && f.at.Version() > 0 {
		f.cfg.Log.Warn("what is here was signed by keys whose word is void: it is kept until a believed key has signed something, be it older",
			"dataset", f.cfg.Dataset, "version", f.at.Version(), "signer", f.signers)
		f.at, f.pending, f.aside, f.under, f.signers = snapshot.NewDataset(f.cfg.Dataset), nil, nil, nil, nil
		f.whole = true
		f.broken, f.deadEnd, f.contradicts, f.failed = snapshot.Chain{}, position{}, position{}, snapshot.ID{}
	}
}

// forgetPending forgets steps that the sink was not given, and that nobody who is believed has
// signed: it is given a whole dataset next, and none below what it has.
func (f *Follower) forgetPending() {
	if len(f.pending) == 0 {
		return
	}
	if has := f.pending[0].delta.Version - 1; has > f.cfg.Floor {
		f.cfg.Floor, f.cfg.FloorSignedBy = has, f.signers
	}
	f.at, f.pending, f.aside, f.whole = snapshot.NewDataset(f.cfg.Dataset), nil, nil, true
}

// news tells whether the manifest or its list of files is another one than was looked at last.
func (f *Follower) news() bool {
	n, files := f.view.manifest, f.view.files
	if n.Path == "" || n.Modified == f.judged && files.Modified == f.judgedFiles {
		return false
	}
	f.judged, f.judgedFiles = n.Modified, files.Modified
	return true
}

// withFiles is the manifest with its list of files. Where that is not the one that was signed it is the
// manifest alone, which leads by deltas as well as ever, and somebody is told.
func (f *Follower) withFiles() []byte {
	n := f.view.manifest
	whole, err := snapshot.Attach(n.Value, f.view.files.Value)
	if err == nil {
		return whole
	}
	if m, bad := snapshot.DecodeManifest(n.Value); bad == nil {
		f.refuseWith(KindManifest, m.Version, err, f.view.files.Value)
	}
	return n.Value
}

func (f *Follower) aimSigned() {
	if !f.news() {
		return
	}
	n := f.view.manifest
	m, err := snapshot.VerifyManifest(n.Value, f.believed.Believed)
	if err != nil {
		kind := KindSignature
		if _, bad := snapshot.DecodeManifest(n.Value); bad != nil {
			kind = KindManifest
		} else if _, unknown := snapshot.VerifyManifest(n.Value, f.believed.Known()); unknown == nil {
			kind = KindRevoked
			for _, id := range snapshot.SignedBy(n.Value) {
				if r, ok := f.believed.Find(id); ok {
					err = fmt.Errorf("signed by key %s, which is revoked: %s", id, r.Why)
				}
			}
		}
		f.refuseWith(kind, 0, err, n.Value)
		return
	}
	if m.Dataset != f.cfg.Dataset {
		f.refuseWith(KindDataset, m.Version, fmt.Errorf("manifest is of dataset %.70q, expected %q", m.Dataset, f.cfg.Dataset), n.Value)
		return
	}
	whole := f.withFiles()
	if m, err = snapshot.DecodeManifest(whole); err != nil { // signed, and contradicts itself
		f.refuseWith(KindManifest, 0, err, n.Value)
		return
	}
	f.consider(target{position{m.Version, m.Chain}, m.Digest, m.Snapshot, whole, m.Deltas}, "manifest", n.Value)
}

func (f *Follower) aimHead() {
	if f.news() {
		m, err := snapshot.DecodeManifest(f.withFiles())
		switch {
		case err != nil:
			f.refuse(KindManifest, 0, err)
		case m.Dataset != f.cfg.Dataset:
			f.refuse(KindDataset, m.Version, fmt.Errorf("manifest is of dataset %.70q, expected %q", m.Dataset, f.cfg.Dataset))
		default:
			f.offered = m.Snapshot
		}
	}
	f.target.snapshot = f.offered
	n := f.view.head
	if n.Path == "" || n.Modified == f.judgedHead {
		return
	}
	f.judgedHead = n.Modified
	t, err := decodeHead(n)
	if err != nil {
		f.refuse(KindHead, 0, err)
		return
	}
	t.snapshot = f.offered
	f.consider(t, "head", n.Value)
}

func decodeHead(n store.Node) (t target, err error) {
	var h tree.Head
	if err := tree.Decode(n, &h); err != nil {
		return t, err
	}
	t.version = h.Version
	if t.digest, err = snapshot.ParseDigest(h.Digest); err != nil {
		return t, fmt.Errorf("node %s: %w", n.Path, err)
	}
	if t.chain, err = snapshot.ParseChain(h.Chain); err != nil {
		return t, fmt.Errorf("node %s: %w", n.Path, err)
	}
	return t, nil
}

// consider makes t the target unless it leads backwards or sideways.
func (f *Follower) consider(t target, what string, evidence []byte) {
	best := max(f.at.Version(), f.target.version, f.cfg.Floor)
	switch {
	case t.version < best:
		f.refuseWith(KindOlder, t.version, fmt.Errorf("%s is of version %d, and version %d was reached before: an old %s again, or a store put back to an older state (what is published next above version %d will be taken)", what, t.version, best, what, best), evidence)
	case t.version == f.at.Version() && (t.chain != f.at.Chain() || t.digest != f.at.Digest()):
		f.refuseWith(KindForked, t.version, fmt.Errorf("%s says digest %s… and chain %s…, here they are %s… and %s…", what, t.digest.String()[:12], t.chain.String()[:12], f.at.Digest().String()[:12], f.at.Chain().String()[:12]), evidence)
	case t.version == f.target.version && t.position != f.target.position:
		f.refuseWith(KindForked, t.version, fmt.Errorf("%s says chain %s…, an earlier one of the same version said %s…", what, t.chain.String()[:12], f.target.chain.String()[:12]), evidence)
	default:
		f.target = t
	}
}
