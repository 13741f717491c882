package script

import (
	"errors"
	"testing"

	"github.com/zonecast/zonecast/fleet"
	"github.com/zonecast/zonecast/record"
)

// partial is a rule that fails in shard a and leaves something out in b.
type partial struct{}

func (partial) Source() record.Source { return "rule/partial" }
func (partial) Uncertain(string) bool { return false }
func (partial) Digest() string        { return "x" }
func (partial) Shards(fleet.Server) ([]string, error) {
	return []string{"a", "b"}, errors.New("perhaps in others")
}

func (partial) Claims(shard string, _ func() []fleet.Server) ([]record.Claim, error) {
	if shard == "a" {
		return nil, errors.New("none")
	}
	return []record.Claim{{Source: "rule/partial"}}, errors.New("not all")
}

// What claims are there stands in place of the last good ones: only where none came do
// these stay.
func TestFleetFailures(t *testing.T) {
	claims, failures := Fleet(partial{}, []fleet.Server{{Name: "\x01x\x00"}})
	if len(claims) != 1 {
		t.Errorf("%d claims, want that of b", len(claims))
	}
	var kept []string
	for _, f := range failures {
		kept = append(kept, f.Shard)
	}
	if len(kept) != 3 || kept[0] != "" || kept[1] != "a" || kept[2] != "" {
		t.Errorf("last good claims stay in %q, want a alone of three failures", kept)
	}
}
