package proxy

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/zonecast/zonecast/internal/configtree"
	"github.com/zonecast/zonecast/internal/tree"
	"github.com/zonecast/zonecast/snapshot/journal"
)

// The cache is one file, a log of what changed; docs/format/config-cache.md draws it.
//
//	magic    8 octets  "ZCCACHE", 1
//	records  until the end:
//	  length   4 octets, big endian, of the payload
//	  sum      4 octets, CRC-32C of the payload
//	  check    4 octets, CRC-32C of the 8 before
//	  payload  first octet: what it is
//	    'S'  JSON of scope: the first record
//	    'P'  2 octets of length, path; 8 octets of version as served; 4 octets of
//	         length, JSON of tree.ConfigEntry; the value
//	    'D'  path
//	    'L'  JSON of mark: everything before it is in force
//	    'C'  JSON of mark: no landing, but a newer confirmation
//
// 'P' and 'D' are synced before the 'L' behind them is written, and 'L' and 'C' are synced
// at once. So when one of these two is whole, all before it was on the disk: what is bad
// there is damage, and not the end that a crash tore.
const (
	cacheMagic  = "ZCCACHE\x01"
	frame       = 12
	cacheFile   = "configurations"
	freshFile   = "configurations.new"
	damagedFile = "configurations.damaged"
	lockFile    = "lock"

	// maxRecord is the longest payload: a value, and what is said of it.
	maxRecord = configtree.MaxValue + 64<<10
	// defaultSlack is octets of void records that are left in the file beside as many as
	// are not void.
	defaultSlack = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// item is one configuration as it is served. It is never changed, but replaced.
type item struct {
	entry   tree.ConfigEntry
	version uint64 // as served; that of the entry but after a store was put back
	value   []byte

	// problem says why what the store has newer of it is not here, and asOf when the
	// store last confirmed what is here; both are zero when all is well, and not kept
	// on the disk.
	problem string
	asOf    time.Time
}

type scope struct {
	Prefixes []string `json:"prefixes"`
}

// mark is the newest landing that is whole, and when the store confirmed it.
type mark struct {
	Head      tree.ConfigHead `json:"head"`
	Confirmed int64           `json:"confirmed_ms"` // unix milliseconds; 0: never
}

// contents is what a cache has.
type contents struct {
	items map[string]*item
	mark  mark
	// whole tells whether everything of the prefixes asked for was in it.
	whole bool
	// anew says why nothing is in it though a file was there.
	anew string
}

// cache is the open file. It belongs to one goroutine.
type cache struct {
	fs    journal.FS
	dir   string
	scope scope
	lock  io.Closer
	file  journal.File // nil: to be written anew
	size  int64        // of the file
	slack int64        // defaultSlack but in tests
	// lengths has the records that are not void, by path; live is their sum.
	lengths map[string]int64
	live    int64
}

// openCache takes dir for this process and reads what is there.
func openCache(fsys journal.FS, dir string, prefixes []string) (c *cache, found contents, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("open cache %s: %w", dir, err)
		}
	}()
	if err := fsys.MkdirAll(dir, 0o755); err != nil {
		return nil, contents{}, err
	}
	lock, err := fsys.Lock(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, contents{}, err
	}
	c = &cache{fs: fsys, dir: dir, lock: lock, slack: defaultSlack, lengths: map[string]int64{}, scope: scope{Prefixes: slices.Sorted(slices.Values(prefixes))}}
	if c.scope.Prefixes == nil {
		c.scope.Prefixes = []string{}
	}
	found, end, err := c.read()
	var damage *damageError
	switch {
	case errors.As(err, &damage):
		err = errors.Join(fsys.Rename(c.path(cacheFile), c.path(damagedFile)), fsys.SyncDir(dir))
		found = contents{items: map[string]*item{}, anew: fmt.Sprintf("%s is damaged (%v); it is now %s", c.path(cacheFile), damage, damagedFile)}
	case errors.Is(err, fs.ErrNotExist):
		return c, contents{items: map[string]*item{}}, nil
	case err == nil && found.whole: // else what is outside of the prefixes is to go
		err = c.resume(end)
	}
	if err != nil {
		return nil, contents{}, errors.Join(err, lock.Close())
	}
	return c, found, nil
}

// count notes how long the record of path is; 0: there is none.
func (c *cache) count(path string, length int64) {
	c.live += length - c.lengths[path]
	if length == 0 {
		delete(c.lengths, path)
	} else {
		c.lengths[path] = length
	}
}

func (c *cache) path(name string) string { return filepath.Join(c.dir, name) }

// damageError says what is wrong with the file.
type damageError struct {
	offset int64
	what   string
}

func (e *damageError) Error() string { return fmt.Sprintf("octet %d: %s", e.offset, e.what) }

// resume goes on writing behind end, the end of the last mark.
func (c *cache) resume(end int64) error {
	f, err := c.fs.OpenFile(c.path(cacheFile), os.O_RDWR|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	size, err := f.Size()
	if err == nil && size > end {
		err = errors.Join(f.Truncate(end), f.Sync())
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	c.file, c.size = f, end
	return nil
}

// read reads the file up to its last mark, where end is.
func (c *cache) read() (found contents, end int64, err error) {
	f, err := c.fs.OpenFile(c.path(cacheFile), os.O_RDONLY, 0)
	if err != nil {
		return contents{}, 0, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return contents{}, 0, err
	}
	return c.scan(f, size)
}

// scan is read of an open file.
func (c *cache) scan(f io.ReaderAt, size int64) (found contents, end int64, err error) {
	found.items = map[string]*item{}
	magic := make([]byte, len(cacheMagic))
	if _, err := f.ReadAt(magic, 0); err != nil || string(magic) != cacheMagic {
		return contents{}, 0, &damageError{0, fmt.Sprintf("begins with %q, expected %q", magic, cacheMagic)}
	}
	var had scope
	waiting := map[string]*item{} // not in force yet; nil: deleted
	lengths := map[string]int64{} // of waiting
	at := int64(len(cacheMagic))  // of the next record
	// damaged gives nil when a crash may have torn the end off.
	damaged := func(what error) error {
		later, err := findMark(f, at+1, size)
		if err != nil {
			return err
		}
		if later >= 0 {
			return &damageError{at, fmt.Sprintf("%v, and a mark that is whole stands behind it, at octet %d", what, later)}
		}
		return nil
	}
	for at < size {
		payload, bad := readRecord(f, at, size)
		if bad != nil {
			if errors.Is(bad, errRead) {
				return contents{}, 0, bad
			}
			if err := damaged(bad); err != nil {
				return contents{}, 0, err
			}
			break
		}
		next := at + frame + int64(len(payload))
		kind, rest := payload[0], payload[1:]
		var err error
		switch kind {
		case 'S':
			if err = json.Unmarshal(rest, &had); err == nil && at != int64(len(cacheMagic)) {
				err = errors.New("a second scope")
			}
		case 'P':
			var path string
			var it *item
			if path, it, err = decodeItem(rest); err == nil {
				waiting[path], lengths[path] = it, next-at
			}
		case 'D':
			if path := string(rest); configtree.CheckPath(path) == nil {
				waiting[path] = nil
			} else {
				err = fmt.Errorf("deletes %q", path)
			}
		case 'L', 'C':
			if err = json.Unmarshal(rest, &found.mark); err != nil {
				break
			}
			for path, it := range waiting {
				c.count(path, lengths[path])
				if it == nil {
					delete(found.items, path)
				} else {
					found.items[path] = it
				}
			}
			clear(waiting)
			clear(lengths)
			end = next
		default:
			err = fmt.Errorf("record of kind 0x%02x", kind)
		}
		if err != nil { // its sum is right: this program did not write it
			return contents{}, 0, &damageError{at, err.Error()}
		}
		at = next
	}
	if end == 0 {
		return contents{}, 0, &damageError{int64(len(cacheMagic)), "no landing is whole"}
	}
	found.whole = slices.Equal(had.Prefixes, c.scope.Prefixes)
	for path := range found.items {
		if !c.scope.has(path) {
			delete(found.items, path)
		}
	}
	return found, end, nil
}

// has tells whether a path is within the scope.
func (s scope) has(path string) bool {
	if len(s.Prefixes) == 0 {
		return true
	}
	return slices.ContainsFunc(s.Prefixes, func(p string) bool { return len(path) > len(p) && path[:len(p)] == p })
}

// errRead is wrapped by errors of the disk, which say nothing about the file.
var errRead = errors.New("cannot read")

// readRecord reads the record at an offset of a file of size octets.
func readRecord(f io.ReaderAt, at, size int64) ([]byte, error) {
	var head [frame]byte
	if size-at < frame {
		return nil, fmt.Errorf("%d octets are left, expected %d before a record", size-at, frame)
	}
	if _, err := f.ReadAt(head[:], at); err != nil {
		return nil, fmt.Errorf("%w: %w", errRead, err)
	}
	n, sum, ok := decodeFrame(head[:])
	if !ok || n == 0 || n > maxRecord {
		return nil, errors.New("what stands before a record does not have its sum")
	}
	if size-at-frame < n {
		return nil, fmt.Errorf("%d octets are left of a record of %d", size-at-frame, n)
	}
	payload := make([]byte, n)
	if _, err := f.ReadAt(payload, at+frame); err != nil {
		return nil, fmt.Errorf("%w: %w", errRead, err)
	}
	if crc32.Checksum(payload, castagnoli) != sum {
		return nil, errors.New("record does not have its sum")
	}
	return payload, nil
}

func decodeFrame(b []byte) (n int64, sum uint32, ok bool) {
	return int64(binary.BigEndian.Uint32(b)), binary.BigEndian.Uint32(b[4:]), crc32.Checksum(b[:8], castagnoli) == binary.BigEndian.Uint32(b[8:])
}

// findMark gives the offset of a mark that is whole, at or behind from; -1: there is none.
func findMark(f io.ReaderAt, from, size int64) (int64, error) {
	const block = 1 << 20
	b := make([]byte, block+frame)
	for at := from; at+frame < size; at += block {
		n, err := f.ReadAt(b[:min(int64(len(b)), size-at)], at)
		if err != nil && err != io.EOF {
			return 0, fmt.Errorf("%w: %w", errRead, err)
		}
		for i := 0; i < block && i+frame <= n; i++ {
			if _, _, ok := decodeFrame(b[i : i+frame]); !ok {
				continue
			}
			payload, err := readRecord(f, at+int64(i), size)
			if errors.Is(err, errRead) {
				return 0, err
			}
			if err == nil && (payload[0] == 'L' || payload[0] == 'C') {
				return at + int64(i), nil
			}
		}
	}
	return -1, nil
}

func encodeItem(path string, it *item) []byte {
	entry := tree.Encode(it.entry)
	b := make([]byte, 0, 1+2+len(path)+8+4+len(entry)+len(it.value))
	b = append(b, 'P')
	b = binary.BigEndian.AppendUint16(b, uint16(len(path)))
	b = append(b, path...)
	b = binary.BigEndian.AppendUint64(b, it.version)
	b = binary.BigEndian.AppendUint32(b, uint32(len(entry)))
	b = append(b, entry...)
	return append(b, it.value...)
}

// decodeItem reads what follows 'P'. It is the program's own, with its sum: what is wrong
// here comes from another program.
func decodeItem(b []byte) (path string, it *item, err error) {
	take := func(n int) []byte {
		if err != nil || n > len(b) {
			err = errors.New("configuration is cut off")
			return make([]byte, 8)
		}
		s := b[:n]
		b = b[n:]
		return s
	}
	path = string(take(int(binary.BigEndian.Uint16(take(2)))))
	it = &item{version: binary.BigEndian.Uint64(take(8))}
	entry := take(int(binary.BigEndian.Uint32(take(4))))
	if err != nil {
		return "", nil, err
	}
	if err := configtree.CheckPath(path); err != nil {
		return "", nil, err
	}
	if err := json.Unmarshal(entry, &it.entry); err != nil {
		return "", nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	if it.version == 0 || len(b) != it.entry.Size {
		return "", nil, fmt.Errorf("configuration %s: version %d, value of %d octets, expected %d", path, it.version, len(b), it.entry.Size)
	}
	it.value = b
	return path, it, nil
}

// save makes changes durable as one landing; a nil item is a path that is gone. all is
// everything that is in force with them.
func (c *cache) save(changes map[string]*item, all map[string]*item, m mark) error {
	if c.file == nil || c.size > 2*c.live+c.slack {
		return c.rewrite(all, m)
	}
	records := func(yield func([]byte) bool) {
		for _, path := range slices.Sorted(maps.Keys(changes)) {
			record, length := append([]byte{'D'}, path...), int64(0)
			if it := changes[path]; it != nil {
				record = encodeItem(path, it)
				length = int64(frame + len(record))
			}
			c.count(path, length)
			if !yield(record) {
				return
			}
		}
	}
	if len(changes) > 0 {
		if err := c.append(records); err != nil {
			return err
		}
	}
	return c.append(one('L', m))
}

// confirm makes a newer confirmation durable.
func (c *cache) confirm(all map[string]*item, m mark) error {
	if c.file == nil {
		return c.rewrite(all, m)
	}
	return c.append(one('C', m))
}

func one(kind byte, v any) iter.Seq[[]byte] {
	return slices.Values([][]byte{append([]byte{kind}, tree.Encode(v)...)})
}

// append writes records behind the others and syncs. After an error nothing more is
// written to this file: what its end is like is not known.
func (c *cache) append(records iter.Seq[[]byte]) error {
	for record := range records {
		if err := write(c.file, record); err != nil {
			return errors.Join(err, c.drop())
		}
		c.size += int64(frame + len(record))
	}
	if err := c.file.Sync(); err != nil {
		return errors.Join(err, c.drop())
	}
	return nil
}

func write(w io.Writer, record []byte) error {
	var head [frame]byte
	binary.BigEndian.PutUint32(head[:], uint32(len(record)))
	binary.BigEndian.PutUint32(head[4:], crc32.Checksum(record, castagnoli))
	binary.BigEndian.PutUint32(head[8:], crc32.Checksum(head[:8], castagnoli))
	_, err := w.Write(append(head[:], record...))
	return err
}

// drop closes the file; the next to be saved is all, in a new one.
func (c *cache) drop() error {
	f := c.file
	c.file = nil
	return f.Close()
}

// rewrite makes a file of what is in force in place of the old one.
func (c *cache) rewrite(all map[string]*item, m mark) (err error) {
	if c.file != nil {
		if err := c.drop(); err != nil {
			return err
		}
	}
	fresh := c.path(freshFile)
	if err := c.fs.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := c.fs.OpenFile(fresh, os.O_RDWR|os.O_APPEND|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	size := int64(len(cacheMagic))
	clear(c.lengths)
	c.live = 0
	put := func(record []byte) {
		if err == nil {
			err = write(f, record)
		}
		size += int64(frame + len(record))
	}
	_, err = f.Write([]byte(cacheMagic))
	put(append([]byte{'S'}, tree.Encode(c.scope)...))
	for _, path := range slices.Sorted(maps.Keys(all)) {
		record := encodeItem(path, all[path])
		put(record)
		c.count(path, int64(frame+len(record)))
	}
	put(append([]byte{'L'}, tree.Encode(m)...))
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = c.fs.Rename(fresh, c.path(cacheFile))
	}
	if err == nil {
		err = c.fs.SyncDir(c.dir)
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	c.file, c.size = f, size
	return nil
}

// close gives the directory up.
func (c *cache) close() error {
	var err error
	if c.file != nil {
		err = c.drop()
	}
	return errors.Join(err, c.lock.Close())
}

// equal tells whether two items are the same to a reader.
func (it *item) equal(o *item) bool {
	return it != nil && o != nil && it.version == o.version && it.entry.Type == o.entry.Type && bytes.Equal(it.value, o.value)
}
