package record

import (
	"fmt"
	"strings"
	"time"
)

// Source names who makes claims: "<kind>/<rest>", such as rule/ptr, zone/wmnet or
// override/17.
type Source string

// Kinds of sources, in the default order of precedence: people before robots.
const (
	KindOverride = "override"
	KindConfig   = "config"
	KindZone     = "zone"
	KindMap      = "map"
	KindUpdate   = "update"
	KindRule     = "rule"
)

// Kind is what stands before the first slash.
func (s Source) Kind() string {
	kind, _, _ := strings.Cut(string(s), "/")
	return kind
}

// Check tells why s is no source, or nil. Every element of the path is 1 to 255
// octets of printable ASCII, and neither "." nor "..".
func (s Source) Check() error {
	switch s.Kind() {
	case KindOverride, KindConfig, KindZone, KindMap, KindUpdate, KindRule:
	default:
		return fmt.Errorf("source %q has an unknown kind, expected override, config, zone, map, update or rule before the first slash", clip(string(s)))
	}
	parts := strings.Split(string(s), "/")
	if len(parts) < 2 {
		return fmt.Errorf("source %q has no name after its kind, expected %s/<name>", clip(string(s)), s.Kind())
	}
	for _, p := range parts {
		if p == "" || p == "." || p == ".." || len(p) > 255 {
			return fmt.Errorf("source %q has the path element %q, expected 1 to 255 octets and not just dots", clip(string(s)), clip(p))
		}
		for _, c := range []byte(p) {
			if c <= ' ' || c >= 0x7f {
				return fmt.Errorf("source %q has the octet 0x%02x, expected printable ASCII", clip(string(s)), c)
			}
		}
	}
	return nil
}

// Provenance says where a claim comes from.
type Provenance struct {
	Author   string    // person or process, as the source knows it; may be empty
	Reason   string    // in words; may be empty
	Time     time.Time // when the source made the claim, UTC, millisecond resolution
	Revision string    // the source's own revision: a commit, a file's hash; may be empty
}

// Claim is one source's assertion of one RRset.
type Claim struct {
	RRset
	Source Source
	Provenance
	// Place is where in the source: file:line, rule and server.
	Place string
	// Fallback claims hold only where no other zone is: a SOA (and the NS beside
	// it) that a rule makes so that its records have a zone. They yield without
	// conflict to a zone claimed without Fallback at the same name or above it.
	Fallback bool
}
