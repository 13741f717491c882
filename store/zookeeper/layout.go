package zookeeper

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"github.com/go-zookeeper/zk"

	"github.com/zonecast/zonecast/store"
)

// Names of the znodes below the root.
const (
	formatName   = "/format"
	headName     = "/head"
	logName      = "/log"
	guardsName   = "/guards"
	sessionsName = "/sessions"
	ownedName    = "/owned"
	bulkName     = "/bulk"
	janitorName  = "/janitor"
	treeName     = "/tree"
)

const (
	// entryPrefix stands before the ten digits that ZooKeeper gives an entry.
	entryPrefix = "c-"
	// listPrefix stands before the ten digits of a list of owned paths.
	listPrefix = "p-"
	// guards is how many there are: enough that two paths seldom share one, few
	// enough to be made in one multi.
	guards = 256
	// leafMark starts the name of a znode that is a node; the others are
	// directories. quote stands before a directory's name that would start with
	// either.
	leafMark = '='
	quote    = '~'
)

// leaf is the znode of a node: its path below tree with leafMark before the last
// element, so that a node and a directory of the same name are two znodes.
func (s *Store) leaf(path string) string {
	i := strings.LastIndexByte(path, '/')
	return s.dir(path[:i+1]) + "/" + string(leafMark) + path[i+1:]
}

// dir is the znode of a directory: of a prefix, which ends in a slash.
func (s *Store) dir(prefix string) string {
	var b strings.Builder
	b.WriteString(s.root)
	b.WriteString(treeName)
	for e := range strings.SplitSeq(strings.Trim(prefix, "/"), "/") {
		if e == "" {
			break
		}
		b.WriteByte('/')
		if e[0] == leafMark || e[0] == quote {
			b.WriteByte(quote)
		}
		b.WriteString(e)
	}
	return b.String()
}

// child takes the name of a znode below tree apart: the element of a path, and
// whether it is a node's. ok is false for names that are not ours.
func child(name string) (element string, isLeaf, ok bool) {
	if name == "" {
		return "", false, false
	}
	switch name[0] {
	case leafMark:
		element, isLeaf = name[1:], true
	case quote:
		if element = name[1:]; element == "" || element[0] != leafMark && element[0] != quote {
			return "", false, false
		}
	default:
		element = name
	}
	return element, isLeaf, store.CheckPath("/"+element) == nil
}

// bucket is the number of a path's guard.
func bucket(path string) int {
	h := fnv.New32a()
	h.Write([]byte(path))
	return int(h.Sum32() % guards)
}

func (s *Store) guard(bucket int) string { return fmt.Sprintf("%s%s/%02x", s.root, guardsName, bucket) }

func (s *Store) generation(g int64) string { return s.root + logName + "/" + strconv.FormatInt(g, 10) }
func (s *Store) marker(id string) string   { return s.root + sessionsName + "/" + id }
func (s *Store) owned(id string) string    { return s.root + ownedName + "/" + id }
func (s *Store) bulk(id string) string     { return s.root + bulkName + "/" + id }

func (s *Store) entry(p position) string {
	return fmt.Sprintf("%s/%s%010d", s.generation(p.gen), entryPrefix, p.seq)
}

// position is the place of an entry in the log.
type position struct {
	gen int64
	seq int64 // less than 2^31
}

// sequence is the number of an entry's znode.
func sequence(name string) (int64, bool) {
	digits, ok := strings.CutPrefix(name, entryPrefix)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(digits, 10, 32)
	return n, err == nil && n >= 0
}

// format is what the znode of that name says; its data version is checked by every
// commit, and changes with the generation.
type format struct {
	gen     int64
	version int32
}

const formatText = "zonecast store 1, generation "

func (f format) encode() []byte { return fmt.Appendf(nil, "%s%d\n", formatText, f.gen) }

func (s *Store) parseFormat(data []byte, st *zk.Stat) (format, error) {
	text, ok := strings.CutPrefix(string(data), formatText)
	gen, err := strconv.ParseInt(strings.TrimSuffix(text, "\n"), 10, 64)
	if !ok || err != nil || gen < 0 {
		return format{}, fmt.Errorf("%s%s says %.60q, expected %q and a number: %w", s.root, formatName, data, formatText, errForeign)
	}
	return format{gen: gen, version: st.Version}, nil
}

// idLen is the length of what newID makes: 8 octets in hexadecimal.
const idLen = 16

// A node's znode has one octet that says whose it is, for sessions' nodes the
// session's id, and then the value.
const (
	kindLasting   = 'P'
	kindEphemeral = 'E'
)

// encodeLeaf is a node's data; owner is a session's id, or empty.
func encodeLeaf(owner string, value []byte) []byte {
	if owner == "" {
		return append([]byte{kindLasting}, value...)
	}
	return append(append([]byte{kindEphemeral}, owner...), value...)
}

func decodeLeaf(data []byte) (owner string, value []byte, err error) {
	switch {
	case len(data) >= 1 && data[0] == kindLasting:
		return "", data[1:], nil
	case len(data) >= 1+idLen && data[0] == kindEphemeral:
		return string(data[1 : 1+idLen]), data[1+idLen:], nil
	}
	return "", nil, fmt.Errorf("znode has %d octets that start with %.8q, expected %q or %q: %w", len(data), data, kindLasting, kindEphemeral, errForeign)
}

// node makes a node of what was read of its znode.
func node(path string, data []byte, st *zk.Stat) (n store.Node, owner string, err error) {
	owner, value, err := decodeLeaf(data)
	if err != nil {
		return store.Node{}, "", fmt.Errorf("%s: %w", path, err)
	}
	return store.Node{Path: path, Value: value, Created: store.Revision(st.Czxid), Modified: store.Revision(st.Mzxid), Ephemeral: owner != ""}, owner, nil
}

// sequences are the numbers of entries, in order; other names are left out.
func sequences(names []string) []int64 {
	out := make([]int64, 0, len(names))
	for _, n := range names {
		if seq, ok := sequence(n); ok {
			out = append(out, seq)
		}
	}
	slices.Sort(out)
	return out
}
