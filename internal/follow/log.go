package follow

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot"
	"github.com/zonecast/zonecast/store"
)

// A log node, /datasets/<dataset>/out/log/<version>, has one of two forms
// (docs/format/log.md):
//
//	octet 0   'D'                  'P'
//	octet 1…  the encoded delta    JSON {"parts":…,"size":…,"sha256":…}
const (
	formDelta = 'D'
	formParts = 'P'
)

// Limits of a delta in the log.
const (
	// maxInline is the largest encoded delta, in octets, that lies in its log node:
	// store.MaxValue less the octet that says the form.
	maxInline = store.MaxValue - 1
	// partSize is octets in every part but the last, which may have fewer.
	partSize = store.MaxValue
	// batchOps is how many parts go into one transaction: with partSize octets and a
	// path of at most 320 octets each they stay below store.MaxTxnBytes.
	batchOps = store.MaxTxnBytes / (partSize + 320)
)

// parts says where a delta lies that is too large for one node.
type parts struct {
	Parts  int    `json:"parts"`  // nodes at tree.PartPath 0 … Parts-1
	Size   int    `json:"size"`   // octets of the encoded delta
	SHA256 string `json:"sha256"` // of the encoded delta, hex
}

// check tells why p cannot be right, or nil.
func (p parts) check() error {
	if p.Size <= maxInline || p.Size > snapshot.MaxDelta {
		return fmt.Errorf("size is %d octets, expected %d to %d", p.Size, maxInline+1, snapshot.MaxDelta)
	}
	if want := (p.Size + partSize - 1) / partSize; p.Parts != want {
		return fmt.Errorf("%d parts announced, expected %d for %d octets", p.Parts, want, p.Size)
	}
	if sum, err := hex.DecodeString(p.SHA256); err != nil || len(sum) != sha256.Size {
		return fmt.Errorf("sha256 is %q, expected %d hexadecimal digits", clip(p.SHA256), 2*sha256.Size)
	}
	return nil
}

// LogOps says how an encoded delta is put into the log: first every batch of parts
// in a transaction of its own (none for a delta that fits its log node), then log in
// the transaction that moves the head. Parts of a version whose log node never came
// are overwritten by the next try and otherwise hurt nobody.
//
// The values alias encoded, which must not change until they are committed.
func LogOps(dataset string, version uint64, encoded []byte) (batches [][]store.Op, log store.Op, err error) {
	path := tree.LogPath(dataset, version)
	if len(encoded) == 0 || len(encoded) > snapshot.MaxDelta {
		return nil, store.Op{}, fmt.Errorf("log delta %d of %s: %d octets, expected 1 to %d", version, dataset, len(encoded), snapshot.MaxDelta)
	}
	if len(encoded) <= maxInline {
		return nil, store.Op{Path: path, Value: append([]byte{formDelta}, encoded...)}, nil
	}
	sum := sha256.Sum256(encoded)
	p := parts{Size: len(encoded), SHA256: hex.EncodeToString(sum[:])}
	var batch []store.Op
	for rest := encoded; len(rest) > 0; p.Parts++ {
		n := min(partSize, len(rest))
		batch = append(batch, store.Op{Path: tree.PartPath(dataset, version, p.Parts), Value: rest[:n:n]})
		rest = rest[n:]
		if len(batch) == batchOps || len(rest) == 0 {
			batches = append(batches, batch)
			batch = nil
		}
	}
	return batches, store.Op{Path: path, Value: append([]byte{formParts}, tree.Encode(p)...)}, nil
}

// Getter is the part of store.Store that reads parts.
type Getter interface {
	Get(ctx context.Context, path string) (store.Node, error)
}

// manifestTries is how often ReadManifest looks: another manifest may come between its two reads.
const manifestTries = 3

// ReadManifest gives the manifest in the store with its list of files. Nothing of it is verified but
// that they belong together. An error that wraps store.ErrNotFound means that there is none.
func ReadManifest(ctx context.Context, st Getter, dataset string) ([]byte, error) {
	var whole []byte
	var err error
	for range manifestTries {
		var n, files store.Node
		if n, err = st.Get(ctx, tree.ManifestPath(dataset)); err != nil {
			return nil, err
		}
		if files, err = st.Get(ctx, tree.FilesPath(dataset)); err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		if whole, err = snapshot.Attach(n.Value, files.Value); err == nil {
			return whole, nil
		}
	}
	return nil, fmt.Errorf("node %s: %w", tree.ManifestPath(dataset), err)
}

// errLog is wrapped by every error that is the fault of what lies in the log, not of
// the way to it.
var errLog = errors.New("bad log node")

// ReadLog gives the encoded delta that a log node holds, from its parts where need
// be. It is as trustworthy as the store: whoever needs more checks the chain. An
// error that wraps store.ErrNotFound means that the parts are trimmed.
func ReadLog(ctx context.Context, st Getter, dataset string, version uint64, value []byte) ([]byte, error) {
	fail := func(format string, args ...any) ([]byte, error) {
		return nil, fmt.Errorf("read %s: %w: %w", tree.LogPath(dataset, version), errLog, fmt.Errorf(format, args...))
	}
	if len(value) < 2 {
		return fail("%d octets, expected a form and a delta", len(value))
	}
	form, rest := value[0], value[1:]
	switch form {
	case formDelta:
		if len(rest) > maxInline {
			return fail("delta of %d octets in the node, at most %d", len(rest), maxInline)
		}
		return rest, nil
	case formParts:
	default:
		return fail("form is 0x%02x, expected 'D' or 'P'", form)
	}
	p, err := decodeParts(rest)
	if err != nil {
		return fail("%w", err)
	}
	var encoded bytes.Buffer // grows with what is really there, not with what is announced
	for i := range p.Parts {
		n, err := st.Get(ctx, tree.PartPath(dataset, version, i))
		if err != nil {
			return nil, fmt.Errorf("read part %d of %d of delta %d of %s: %w", i, p.Parts, version, dataset, err)
		}
		if want := min(partSize, p.Size-i*partSize); len(n.Value) != want {
			return fail("part %d has %d octets, expected %d", i, len(n.Value), want)
		}
		encoded.Write(n.Value)
	}
	if sum := sha256.Sum256(encoded.Bytes()); hex.EncodeToString(sum[:]) != p.SHA256 {
		return fail("sha256 of the parts is %x, the log node says %s", sum[:8], p.SHA256[:16])
	}
	return encoded.Bytes(), nil
}

// Damaged gives the newest delta of the log, from version with its chain value down to lowest, that is
// not as it was published; 0: all are. What is below a large delta is not looked at.
func Damaged(ctx context.Context, st Lister, dataset string, version uint64, chain snapshot.Chain, lowest uint64) (uint64, error) {
	nodes, _, err := st.List(ctx, tree.LogPrefix(dataset))
	if err != nil {
		return 0, err
	}
	log := make(map[uint64][]byte, len(nodes))
	for _, n := range nodes {
		if at, ok := tree.LogVersion(dataset, n.Path); ok {
			log[at] = n.Value
		}
	}
	for at := version; at >= max(lowest, 1); at-- {
		encoded, inline, err := inline(log[at])
		if err != nil || inline && snapshot.ChainOf(encoded) != chain {
			return at, nil
		}
		if !inline {
			return 0, nil
		}
		d, err := snapshot.DecodeDelta(encoded)
		if err != nil {
			return at, nil
		}
		if d.Full {
			return 0, nil
		}
		chain = d.Prev
	}
	return 0, nil
}

// Lister is the part of store.Store that lists the log.
type Lister interface {
	List(ctx context.Context, prefix string) ([]store.Node, store.Revision, error)
}

// inline gives the encoded delta that a log node holds in itself; false when it lies in parts. An
// error means that the node is none.
func inline(value []byte) (encoded []byte, inline bool, err error) {
	if len(value) < 2 {
		return nil, false, fmt.Errorf("%w: %d octets, expected a form and a delta", errLog, len(value))
	}
	switch value[0] {
	case formDelta:
		return value[1:], true, nil
	case formParts:
		_, err := decodeParts(value[1:])
		return nil, false, err
	}
	return nil, false, fmt.Errorf("%w: form is 0x%02x, expected 'D' or 'P'", errLog, value[0])
}

// decodeParts reads what follows formParts.
func decodeParts(b []byte) (parts, error) {
	var p parts
	if len(b) > 512 {
		return p, fmt.Errorf("pointer to parts has %d octets, at most 512", len(b))
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return p, fmt.Errorf("pointer to parts: %w", err)
	}
	return p, p.check()
}

// clip shortens text from outside for an error message.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
