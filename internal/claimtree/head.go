package claimtree

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/record"
	"github.com/zonecast/zonecast/store"
)

// The head of a headed source names its live shards:
//
//	magic    2 octets  'H', version 1
//	ids      n × 16    the first 16 octets of SHA-256 of each shard's value,
//	                   ascending, no duplicates
//
// The shard's node is called "@" and the id in hexadecimal.
const (
	headName    = "@head"
	headMagic   = "H\x01"
	idSize      = 16
	shardPrefix = "@"

	// maxShards is how many a head can name and still be written beside a full
	// shard in one transaction.
	maxShards = (store.MaxValue - len(headMagic)) / idSize
)

type id [idSize]byte

func idOf(value []byte) id { return id(sha256sum(value)[:idSize]) }

func sha256sum(b []byte) []byte {
	s := sha256.Sum256(b)
	return s[:]
}

func (i id) name() string { return shardPrefix + hex.EncodeToString(i[:]) }

func (i id) path(source record.Source) string { return tree.ClaimsPrefix(source) + i.name() }

// parseName reads a shard's node name.
func parseName(name string) (i id, ok bool) {
	rest, ok := strings.CutPrefix(name, shardPrefix)
	if !ok || len(rest) != 2*idSize {
		return id{}, false
	}
	b, err := hex.DecodeString(rest)
	if err != nil || hex.EncodeToString(b) != rest {
		return id{}, false
	}
	return id(b), true
}

func encodeHead(ids []id) []byte {
	b := []byte(headMagic)
	for _, i := range ids {
		b = append(b, i[:]...)
	}
	return b
}

func decodeHead(b []byte) ([]id, error) {
	rest, ok := strings.CutPrefix(string(b), headMagic)
	if !ok || len(rest)%idSize != 0 {
		return nil, fmt.Errorf("head of %d octets is none of version 1", len(b))
	}
	ids := make([]id, 0, len(rest)/idSize)
	for ; rest != ""; rest = rest[idSize:] {
		i := id([]byte(rest[:idSize]))
		if n := len(ids); n > 0 && string(ids[n-1][:]) >= string(i[:]) {
			return nil, fmt.Errorf("head's ids are not ascending at %d", n)
		}
		ids = append(ids, i)
	}
	return ids, nil
}
