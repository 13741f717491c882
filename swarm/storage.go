package swarm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/anacrolix/torrent/metainfo"
	"github.com/anacrolix/torrent/storage"
)

// file is one snapshot as the library reads and writes it. It is not mapped into memory: what
// happens to the file gives errors, not signals.
type file struct {
	f      *os.File
	size   int64
	length int64        // of a piece
	whole  bool         // all of it is right, and nothing is written
	fail   func() error // of a write, for tests; nil: none

	mu   sync.Mutex // guards below
	done []bool     // pieces that are right
}

// openShared opens a file that is whole and right.
func openShared(path string, size, length int64) (*file, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() != size {
		err = fmt.Errorf("%s has %d octets, expected %d", path, info.Size(), size)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &file{f: f, size: size, length: length, whole: true}, nil
}

// openPart opens a file that is to be filled, and tells whether some of it was there.
func openPart(path string, size, length int64) (part *file, old bool, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, false, err
	}
	info, err := f.Stat()
	if err == nil {
		old = info.Size() == size
		if err = f.Truncate(size); err == nil {
			return &file{f: f, size: size, length: length, done: make([]bool, (size+length-1)/length)}, old, nil
		}
	}
	return nil, false, errors.Join(err, f.Close())
}

// OpenTorrent is storage.ClientImpl.OpenTorrent.
func (f *file) OpenTorrent(context.Context, *metainfo.Info, metainfo.Hash) (storage.TorrentImpl, error) {
	return storage.TorrentImpl{
		Piece: func(p metainfo.Piece) storage.PieceImpl {
			return &piece{f, p.Index(), p.Offset(), p.Length()}
		},
		Close: func() error { return nil }, // whoever opened the file closes it
	}, nil
}

// piece is storage.PieceImpl.
type piece struct {
	file   *file
	index  int
	offset int64
	length int64
}

// ReadAt reads within the piece.
func (p *piece) ReadAt(b []byte, at int64) (int, error) {
	return io.NewSectionReader(p.file.f, p.offset, p.length).ReadAt(b, at)
}

// WriteAt writes within the piece.
func (p *piece) WriteAt(b []byte, at int64) (int, error) {
	if p.file.whole || at < 0 || at+int64(len(b)) > p.length {
		return 0, fmt.Errorf("write %d octets at %d of piece %d of %d octets: not allowed", len(b), at, p.index, p.length)
	}
	if p.file.fail != nil {
		if err := p.file.fail(); err != nil {
			return 0, err
		}
	}
	return p.file.f.WriteAt(b, p.offset+at)
}

func (p *piece) mark(done bool) error {
	if p.file.whole {
		return nil
	}
	p.file.mu.Lock()
	defer p.file.mu.Unlock()
	p.file.done[p.index] = done
	return nil
}

// MarkComplete is called when the piece's hash came out.
func (p *piece) MarkComplete() error { return p.mark(true) }

// MarkNotComplete is called when it did not.
func (p *piece) MarkNotComplete() error { return p.mark(false) }

// Completion tells whether the piece is right.
func (p *piece) Completion() storage.Completion {
	p.file.mu.Lock()
	defer p.file.mu.Unlock()
	return storage.Completion{Ok: true, Complete: p.file.whole || p.file.done[p.index]}
}

// noStorage is for torrents that name no storage: we have none.
type noStorage struct{}

// OpenTorrent is storage.ClientImpl.OpenTorrent.
func (noStorage) OpenTorrent(context.Context, *metainfo.Info, metainfo.Hash) (storage.TorrentImpl, error) {
	return storage.TorrentImpl{}, errors.New("torrent without a file of ours")
}
