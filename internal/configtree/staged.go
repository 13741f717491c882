package configtree

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/store"
)

// A chunk of a staged landing (docs/format/config.md) is any number of
//
//	path     2 octets of length (big endian), then the path
//	entry    4 octets of length (big endian), then the node as decodeEntry reads it;
//	         length 0: the configuration is removed
//
// Paths ascend through all chunks of a landing.
const chunkFrame = 2 + 4

// maxChunks bounds a landing to 256 MiB of entries: more than 50,000 configurations of
// the largest values that lie in their nodes.
const maxChunks = 4096

// change is a configuration's new entry; nil: it is removed.
type change struct {
	path  string
	entry *Entry
}

// chunks cuts changes, which ascend by path, into values of nodes.
func chunks(changes []change) ([][]byte, error) {
	var all [][]byte
	var chunk []byte
	for _, c := range changes {
		var node []byte
		if c.entry != nil {
			node = c.entry.encode()
		}
		if len(chunk)+chunkFrame+len(c.path)+len(node) > store.MaxValue {
			all = append(all, chunk)
			chunk = nil
		}
		chunk = binary.BigEndian.AppendUint16(chunk, uint16(len(c.path)))
		chunk = append(chunk, c.path...)
		chunk = binary.BigEndian.AppendUint32(chunk, uint32(len(node)))
		chunk = append(chunk, node...)
	}
	all = append(all, chunk)
	if len(all) > maxChunks {
		return nil, fmt.Errorf("landing has %d chunks, at most %d", len(all), maxChunks)
	}
	return all, nil
}

// decodeChunk reads a chunk; last is the path before its first.
func decodeChunk(b []byte, last string) ([]change, error) {
	var all []change
	for len(b) > 0 {
		path, rest, err := cut(b, 2)
		if err != nil {
			return nil, fmt.Errorf("path: %w", err)
		}
		node, rest, err := cut(rest, 4)
		if err != nil {
			return nil, fmt.Errorf("entry of %q: %w", clip(string(path)), err)
		}
		c := change{path: string(path)}
		if err := CheckPath(c.path); err != nil {
			return nil, err
		}
		if c.path <= last {
			return nil, fmt.Errorf("path %s after %s, expected ascending ones", c.path, last)
		}
		if len(node) > 0 {
			if c.entry, err = decodeEntry(node); err != nil {
				return nil, fmt.Errorf("entry of %s: %w", c.path, err)
			}
		}
		all = append(all, c)
		last, b = c.path, rest
	}
	return all, nil
}

// cut takes a string with size octets of length before it off b.
func cut(b []byte, size int) (s, rest []byte, err error) {
	if len(b) < size {
		return nil, nil, errors.New("its length is cut off")
	}
	n := 0
	for _, c := range b[:size] {
		n = n<<8 | int(c)
	}
	if n > len(b)-size {
		return nil, nil, fmt.Errorf("length is %d, %d octets are left", n, len(b)-size)
	}
	return b[size : size+n], b[size+n:], nil
}

// splitStaged reads a path made by tree.ConfigStagedPath.
func splitStaged(path string) (version uint64, n int, ok bool) {
	rest, ok := strings.CutPrefix(path, tree.ConfigStagedPrefix)
	if !ok {
		return 0, 0, false
	}
	a, b, ok := strings.Cut(rest, "/")
	version, err1 := strconv.ParseUint(a, 10, 64)
	n, err2 := strconv.Atoi(b)
	return version, n, ok && err1 == nil && err2 == nil && n >= 0 && n < maxChunks && tree.ConfigStagedPath(version, n) == path
}
