package site

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/zonecast/zonecast/internal/atomicfile"
	"github.com/zonecast/zonecast/internal/follow"
	"github.com/zonecast/zonecast/store"
	"github.com/zonecast/zonecast/store/wire"
)

// The file of a mirror (docs/format/proxy.md):
//
//	"zonecast site tree 1\n", the prefix, "\n"
//	records, each
//	  0  4  length n of the payload, big endian
//	  4  4  CRC-32C of the payload
//	  8  n  payload: unix milliseconds at which the store said so (varint), a batch
//	        (package store/wire); the first is a Reset
//
// A record that is cut short or damaged ends the file: the store tells anew what came after
// the one before.
const cacheMagic = "zonecast site tree 1\n"

// slack is octets of void records before a file is written anew, besides as many as its state.
const slack = 1 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// cache is the file of one mirror.
type cache struct {
	path   string
	prefix string
	file   *os.File // nil: to be written anew
	size   int64    // octets of the file
	whole  int64    // octets of it when it was written anew
	// failed is why it could not be written anew, tried when that was: all of it is much to write each time
	// that something happens, and takes the last room of a disk.
	failed error
	tried  time.Time
}

// rewritePause is the least time before what could not be written anew is tried again.
const rewritePause = 10 * time.Second

// cachePath is where in dir the mirror of prefix lies.
func cachePath(dir, prefix string) string {
	name := strings.ReplaceAll(strings.Trim(prefix, "/"), "/", "_")
	if name == "" {
		name = "all"
	}
	return filepath.Join(dir, name+".tree")
}

// lockDir makes dir this process's.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%s is in use by another process: %w", dir, err), f.Close())
	}
	return f, nil
}

// openCache reads what is there and gives it to take, batch by batch. lost tells what of the
// file could not be used; empty: nothing.
func openCache(dir, prefix string, take func(store.Batch)) (c *cache, asOf time.Time, lost string, err error) {
	c = &cache{path: cachePath(dir, prefix), prefix: prefix}
	b, err := os.ReadFile(c.path)
	if errors.Is(err, os.ErrNotExist) {
		return c, asOf, "", nil
	}
	if err != nil {
		return nil, asOf, "", err
	}
	rest, ok := bytes.CutPrefix(b, []byte(cacheMagic+prefix+"\n"))
	if !ok {
		return c, asOf, fmt.Sprintf("%s is of another version or prefix", c.path), nil
	}
	began := false
	for len(rest) > 0 {
		at, batch, n, err := parseRecord(rest)
		if err == nil && !began && !batch.Reset {
			err = errors.New("the first record is no Reset")
		}
		if err != nil {
			lost = fmt.Sprintf("%s: %v at octet %d of %d: what follows is left out", c.path, err, len(b)-len(rest), len(b))
			break
		}
		if !began {
			c.whole = int64(len(b) - len(rest) + n)
		}
		began = true
		take(batch)
		asOf, rest = at, rest[n:]
	}
	if !began {
		return c, asOf, lost, nil
	}
	f, err := os.OpenFile(c.path, os.O_RDWR, 0o600)
	if err != nil {
		return nil, asOf, "", err
	}
	c.file, c.size = f, int64(len(b)-len(rest))
	err = f.Truncate(c.size)
	if err == nil {
		_, err = f.Seek(c.size, io.SeekStart)
	}
	if err != nil {
		return nil, asOf, "", errors.Join(err, f.Close())
	}
	return c, asOf, lost, nil
}

// parseRecord reads the record at the beginning of b and gives its length.
func parseRecord(b []byte) (at time.Time, batch store.Batch, n int, err error) {
	if len(b) < 8 || uint64(len(b)-8) < uint64(binary.BigEndian.Uint32(b)) {
		return at, batch, 0, errors.New("a record is cut short")
	}
	n = 8 + int(binary.BigEndian.Uint32(b))
	payload := b[8:n]
	if crc32.Checksum(payload, castagnoli) != binary.BigEndian.Uint32(b[4:]) {
		return at, batch, 0, errors.New("a record's checksum is wrong")
	}
	ms, k := binary.Uvarint(payload)
	if k <= 0 || ms > 1<<48 {
		return at, batch, 0, errors.New("a record has no time")
	}
	batch, err = wire.ParseBatch(payload[k:])
	return time.UnixMilli(int64(ms)), batch, n, err
}

func appendRecord(b []byte, at time.Time, batch store.Batch) []byte {
	payload := wire.AppendBatch(binary.AppendUvarint(nil, uint64(max(0, at.UnixMilli()))), batch)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(payload, castagnoli))
	return append(b, payload...)
}

// save appends a batch, or writes the whole state when that is due. An error leaves the file as
// it is, and the next save writes it anew.
func (c *cache) save(at time.Time, batch store.Batch, state func() store.Batch) error {
	if c.file != nil && !batch.Reset && c.size <= 2*c.whole+slack {
		record := appendRecord(nil, at, batch)
		if _, err := c.file.Write(record); err == nil {
			c.size += int64(len(record))
			return nil
		}
	}
	if err := c.close(); err != nil {
		return err
	}
	if c.failed != nil && time.Since(c.tried) < rewritePause {
		return c.failed
	}
	whole := appendRecord([]byte(cacheMagic+c.prefix+"\n"), at, state())
	c.tried = time.Now()
	c.failed = follow.Room(filepath.Dir(c.path), int64(len(whole)))
	if c.failed == nil {
		c.failed = atomicfile.Write(c.path, 0o600, whole)
	}
	if c.failed != nil {
		return c.failed
	}
	f, err := os.OpenFile(c.path, os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	c.file, c.size, c.whole = f, int64(len(whole)), int64(len(whole))
	return nil
}

// sync makes what was appended durable. Without it a loss of power costs what came since: the
// store tells it anew.
func (c *cache) sync() error {
	if c.file == nil {
		return nil
	}
	return c.file.Sync()
}

func (c *cache) close() error {
	if c.file == nil {
		return nil
	}
	err := errors.Join(c.file.Sync(), c.file.Close())
	c.file = nil
	return err
}
