package configtree

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// Limits.
const (
	// MaxPath is the longest path of a configuration, in octets: with its prefix it stays
	// well below the 1,024 of a store's path.
	MaxPath = 512
	// MaxValue is the largest value, in octets.
	MaxValue = 16 << 20
	// maxInline is the largest value that lies in its configuration's node. Who follows
	// all configurations and needs few is sent no more than this of each.
	maxInline = 4 << 10
	// maxHeader bounds the line about a value; sources that do not fit are counted.
	maxHeader = 16 << 10
	maxText   = 256 // octets of a type, a revision
	// partSize is octets in every part but the last, which may have fewer.
	partSize = store.MaxValue
)

// Config is one compiled configuration.
type Config struct {
	Path     string
	Type     string   // of the IDL, file.Type
	Revision string   // of the source repository at which the value was made
	Sources  []string // files it was made from
	Value    []byte   // JSON
}

// Entry is what the store says of a configuration. Value is nil unless it lies in the node:
// Fetch gets it.
type Entry struct {
	tree.ConfigEntry
	Value []byte
}

// CheckPath tells why path names no configuration, or nil: elements of letters, digits
// and . _ + = : , - with slashes between, MaxPath octets in all. Such a path needs no
// escaping in a URL, in a file's name or in a shell.
func CheckPath(path string) error {
	if path == "" || len(path) > MaxPath {
		return fmt.Errorf("configuration path of %d octets, expected 1 to %d", len(path), MaxPath)
	}
	for i := range len(path) {
		c := path[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("/._+=:,-", c) >= 0) {
			return fmt.Errorf("configuration path %q has the octet 0x%02x, expected letters, digits and . _ + = : , - with slashes between", path, c)
		}
	}
	if err := store.CheckPath(tree.ConfigPath(path)); err != nil {
		return fmt.Errorf("configuration %w", err)
	}
	return nil
}

// CheckPrefix tells why prefix is not the beginning of paths, or nil: empty, or a path
// with a slash behind it.
func CheckPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	path, ok := strings.CutSuffix(prefix, "/")
	if !ok {
		return fmt.Errorf("configuration prefix %q does not end in a slash", prefix)
	}
	return CheckPath(path)
}

// check tells why no Writer takes c, or nil.
func (c Config) check() error {
	if err := CheckPath(c.Path); err != nil {
		return err
	}
	fail := func(format string, args ...any) error {
		return fmt.Errorf("configuration %s: %w", c.Path, fmt.Errorf(format, args...))
	}
	switch {
	case len(c.Type) > maxText || len(c.Revision) > maxText:
		return fail("type of %d and revision of %d octets, at most %d each", len(c.Type), len(c.Revision), maxText)
	case len(c.Value) > MaxValue:
		return fail("value of %d octets, at most %d", len(c.Value), MaxValue)
	case !json.Valid(c.Value):
		return fail("value is not JSON")
	}
	return nil
}

// entry is what the store is to say of c once landing version is there.
func (c Config) entry(version uint64) *Entry {
	sum := sha256.Sum256(c.Value)
	e := &Entry{ConfigEntry: tree.ConfigEntry{
		Type: c.Type, Version: version, Revision: c.Revision, Sources: c.Sources,
		Size: len(c.Value), SHA256: hex.EncodeToString(sum[:]),
	}}
	if e.Sources == nil {
		e.Sources = []string{}
	}
	for len(e.Sources) > 0 && len(tree.Encode(e.ConfigEntry)) > maxHeader {
		drop := (len(e.Sources) + 1) / 2
		e.Sources, e.More = e.Sources[:len(e.Sources)-drop], e.More+drop
	}
	if len(c.Value) <= maxInline {
		e.Value = c.Value
	}
	return e
}

// large tells whether the value lies in parts.
func (e *Entry) large() bool { return e.Size > maxInline }

// parts is how many parts a value of size octets has.
func parts(size int) int { return (size + partSize - 1) / partSize }

// same tells whether two entries, of which each may be nil, are one.
func (e *Entry) same(o *Entry) bool {
	if e == nil || o == nil {
		return e == o
	}
	return e.Version == o.Version && e.SHA256 == o.SHA256 && e.Type == o.Type && e.Revision == o.Revision
}

// encode gives a configuration's node (docs/format/config.md):
//
//	JSON of a tree.ConfigEntry on one line | '\n' | value, if size <= 4096
func (e *Entry) encode() []byte {
	b := append(tree.Encode(e.ConfigEntry), '\n')
	return append(b, e.Value...)
}

// decodeEntry reads what encode wrote.
func decodeEntry(b []byte) (*Entry, error) {
	line, value, ok := bytes.Cut(b, []byte{'\n'})
	if !ok || len(line) > maxHeader {
		return nil, fmt.Errorf("node of %d octets does not begin with a line of at most %d", len(b), maxHeader)
	}
	e := &Entry{}
	if err := json.Unmarshal(line, &e.ConfigEntry); err != nil {
		return nil, fmt.Errorf("line about the value: %w", err)
	}
	if err := checkSum(e.SHA256); err != nil {
		return nil, err
	}
	switch {
	case e.Version == 0:
		return nil, errors.New("version is 0, expected the number of a landing")
	case len(e.Type) > maxText || len(e.Revision) > maxText:
		return nil, fmt.Errorf("type of %d and revision of %d octets, at most %d each", len(e.Type), len(e.Revision), maxText)
	case e.Size < 0 || e.Size > MaxValue:
		return nil, fmt.Errorf("size is %d octets, expected 0 to %d", e.Size, MaxValue)
	case e.large() && len(value) != 0:
		return nil, fmt.Errorf("%d octets follow the line, expected none: a value of %d octets lies in parts", len(value), e.Size)
	case e.large():
		return e, nil
	}
	if err := e.Check(value); err != nil {
		return nil, err
	}
	e.Value = value
	return e, nil
}

func checkSum(sum string) error {
	b, err := hex.DecodeString(sum)
	if err != nil || len(b) != sha256.Size || hex.EncodeToString(b) != sum {
		return fmt.Errorf("sha256 is %q, expected %d hexadecimal digits", clip(sum), 2*sha256.Size)
	}
	return nil
}

// Check tells why value is not what the entry speaks of, or nil.
func (e *Entry) Check(value []byte) error {
	if len(value) != e.Size {
		return fmt.Errorf("value has %d octets, expected %d", len(value), e.Size)
	}
	if sum := sha256.Sum256(value); hex.EncodeToString(sum[:]) != e.SHA256 {
		return fmt.Errorf("sha256 of the value is %x, expected %s", sum[:8], e.SHA256[:16])
	}
	if !json.Valid(value) {
		return errors.New("value is not JSON")
	}
	return nil
}

// Getter is the part of store.Store that reads parts.
type Getter interface {
	Get(ctx context.Context, path string) (store.Node, error)
}

// ErrBad is wrapped by errors that are the fault of what lies in the store, not of the way
// to it.
var ErrBad = errors.New("bad value in the store")

// Fetch gives the value of an entry. An error that wraps store.ErrNotFound means that a
// part is gone: then the configuration has changed, or the store is damaged.
func (e *Entry) Fetch(ctx context.Context, st Getter) ([]byte, error) {
	if !e.large() {
		return e.Value, nil
	}
	var value []byte // grows with what is really there, not with what is announced
	for i := range parts(e.Size) {
		n, err := st.Get(ctx, tree.ConfigPartPath(e.SHA256, i))
		if err != nil {
			return nil, fmt.Errorf("read part %d of %d: %w", i, parts(e.Size), err)
		}
		if want := min(partSize, e.Size-i*partSize); len(n.Value) != want {
			return nil, fmt.Errorf("%w: %s has %d octets, expected %d", ErrBad, n.Path, len(n.Value), want)
		}
		value = append(value, n.Value...)
	}
	if err := e.Check(value); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBad, err)
	}
	return value, nil
}

// clip shortens text from outside for an error message.
func clip(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
