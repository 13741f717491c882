package claimtree

import (
	"crypto/sha256"
	"encoding/binary"
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
//
// While a replacement of several sources is under way it names two states:
//
//	magic    2 octets  'H', version 2
//	number   u64       big endian: the second state is live when the gate has come to it
//	count    u32       ids of the first state
//	ids      n × 16    the first state's, then the second's, each as above
const (
	headName    = "@head"
	headMagic   = "H\x01"
	bothMagic   = "H\x02"
	bothSize    = len(bothMagic) + 8 + 4
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

// encodeBoth is the head of a source that changes from one state to another when the gate
// comes to number.
func encodeBoth(number uint64, now, next []id) ([]byte, error) {
	if n := len(now) + len(next); bothSize+n*idSize > store.MaxValue {
		return nil, fmt.Errorf("%d shards before and %d after, at most %d together: split it into several sources", len(now), len(next), (store.MaxValue-bothSize)/idSize)
	}
	b := binary.BigEndian.AppendUint64([]byte(bothMagic), number)
	b = binary.BigEndian.AppendUint32(b, uint32(len(now)))
	for _, i := range now {
		b = append(b, i[:]...)
	}
	for _, i := range next {
		b = append(b, i[:]...)
	}
	return b, nil
}

// head is what the node says. number is 0 when there is one state.
type head struct {
	now, next []id
	number    uint64
}

// at is the state that is live when the gate has come to a number.
func (h head) at(gate uint64) []id {
	if h.number > 0 && h.number <= gate {
		return h.next
	}
	return h.now
}

func decodeHead(b []byte) (h head, err error) {
	if rest, ok := strings.CutPrefix(string(b), headMagic); ok {
		h.now, err = decodeIDs(rest)
		return h, err
	}
	if !strings.HasPrefix(string(b), bothMagic) || len(b) < bothSize {
		return head{}, fmt.Errorf("head of %d octets is none of version 1 or 2", len(b))
	}
	h.number = binary.BigEndian.Uint64(b[len(bothMagic):])
	n := uint64(binary.BigEndian.Uint32(b[len(bothMagic)+8:])) * idSize
	rest := b[bothSize:]
	if h.number == 0 || n > uint64(len(rest)) {
		return head{}, fmt.Errorf("head of %d octets names %d in its first state, for number %d", len(b), n/idSize, h.number)
	}
	if h.now, err = decodeIDs(string(rest[:n])); err != nil {
		return head{}, err
	}
	h.next, err = decodeIDs(string(rest[n:]))
	return h, err
}

func decodeIDs(rest string) ([]id, error) {
	if len(rest)%idSize != 0 {
		return nil, fmt.Errorf("head has %d octets of ids, expected a multiple of %d", len(rest), idSize)
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
