package swarm

import (
	"crypto/sha1" // #nosec: BEP 3 says so; files are believed by SHA-256
	"errors"
	"fmt"
	"io"

	"github.com/anacrolix/torrent/bencode"
	"github.com/anacrolix/torrent/metainfo"

	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot"
)

// Bounds of pieces. 24,000 hashes of 20 octets leave 170 KiB of tree.MaxTorrent for URLs and the
// rest, more than they can have. Small pieces let more of an older snapshot be used again, large
// ones cost less CPU, which counts for large files; docs/format/swarm.md has figures.
const (
	maxPieces   = 24000
	minPiece    = 16 << 10 // what peers ask for at once
	largePiece  = 64 << 10 // the least of a file of more than smallFile octets
	smallFile   = 64 << 20
	maxMetainfo = tree.MaxTorrent
)

// pieceLength is octets of a piece of a file of size octets: minPiece of a small one, of others
// the least power of two from largePiece that gives at most maxPieces.
func pieceLength(size int64) int64 {
	if size <= smallFile {
		return minPiece
	}
	n := int64(largePiece)
	for (size+n-1)/n > maxPieces {
		n *= 2
	}
	return n
}

// fileName is the name of a snapshot in its metainfo, under which other programs store it.
func fileName(dataset string, id snapshot.ID) string {
	return dataset + "-" + id.String() + ".snapshot"
}

// makeMetainfo hashes the pieces of a file. Its info is a function of dataset and content
// alone.
func makeMetainfo(dataset string, ref snapshot.Ref, length int64, r io.Reader) (*metainfo.MetaInfo, error) {
	private := true
	info := metainfo.Info{Name: fileName(dataset, ref.ID), Length: ref.Size, PieceLength: length, Private: &private}
	buf := make([]byte, info.PieceLength)
	for left := ref.Size; left > 0; {
		piece := buf[:min(left, info.PieceLength)]
		if _, err := io.ReadFull(r, piece); err != nil {
			return nil, err
		}
		sum := sha1.Sum(piece)
		info.Pieces = append(info.Pieces, sum[:]...)
		left -= int64(len(piece))
	}
	b, err := bencode.Marshal(info)
	if err != nil {
		return nil, err
	}
	return &metainfo.MetaInfo{InfoBytes: b, UrlList: metainfo.UrlList(ref.URLs)}, nil
}

// encodeMetainfo gives what is in the store, and what other programs are given.
func encodeMetainfo(m *metainfo.MetaInfo) ([]byte, error) {
	b, err := bencode.Marshal(m)
	if err != nil {
		return nil, err
	}
	if len(b) > maxMetainfo {
		return nil, fmt.Errorf("metainfo has %d octets, at most %d: are there many URLs?", len(b), maxMetainfo)
	}
	return b, nil
}

// decodeMetainfo reads a metainfo and holds it against the reference: it must be of the info
// hash that is signed there, and describe one file of its size in pieces of a bounded length.
func decodeMetainfo(b []byte, dataset string, ref snapshot.Ref) (*metainfo.MetaInfo, *metainfo.Info, error) {
	fail := func(err error) (*metainfo.MetaInfo, *metainfo.Info, error) {
		return nil, nil, fmt.Errorf("metainfo of snapshot %s: %w", short(ref.ID), err)
	}
	if len(b) > maxMetainfo {
		return fail(fmt.Errorf("it has %d octets, at most %d", len(b), maxMetainfo))
	}
	var m metainfo.MetaInfo
	if err := bencode.Unmarshal(b, &m); err != nil {
		return fail(err)
	}
	if len(m.InfoBytes) == 0 {
		return fail(errors.New("it has no info"))
	}
	if got := m.HashInfoBytes().HexString(); got != ref.Torrent {
		return fail(fmt.Errorf("its info hash is %s, the manifest says %s", got, ref.Torrent))
	}
	info, err := m.UnmarshalInfo()
	if err != nil {
		return fail(err)
	}
	pieces := int64(0)
	if info.PieceLength > 0 {
		pieces = (ref.Size + info.PieceLength - 1) / info.PieceLength
	}
	switch {
	case info.Name != fileName(dataset, ref.ID):
		return fail(fmt.Errorf("its name is %.100q, expected %s", info.Name, fileName(dataset, ref.ID)))
	case len(info.Files) > 0 || info.HasV2() || info.Length != ref.Size:
		return fail(fmt.Errorf("it is of %d octets in %d files, expected one file of %d in version 1", info.Length, len(info.Files), ref.Size))
	case info.PieceLength < minPiece || info.PieceLength > 64<<20 || info.PieceLength&(info.PieceLength-1) != 0:
		return fail(fmt.Errorf("its pieces have %d octets, expected a power of two from %d to %d", info.PieceLength, minPiece, 64<<20))
	case int64(len(info.Pieces)) != pieces*sha1.Size:
		return fail(fmt.Errorf("it has %d octets of hashes, expected %d of %d", len(info.Pieces), pieces, sha1.Size))
	}
	return &m, &info, nil
}

// short is enough of an id for people.
func short(id snapshot.ID) string { return id.String()[:12] }
