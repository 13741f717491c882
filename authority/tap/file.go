package tap

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	dnstap "github.com/dnstap/golang-dnstap"
	framestream "github.com/farsightsec/golang-framestream"
)

// frameSize are the octets before a payload, ends those of the frames that begin and end a
// file (Frame Streams: escape, length and type of each, and the content type).
const (
	frameSize = 4
	ends      = 4 + 4 + 4 + (4 + 4 + len("protobuf:dnstap.Dnstap")) + 4 + 4 + 4
)

// file is the file that messages go to now, and those before it: path is the newest one,
// path.1 the one before, up to path.keep.
//
//	closed -- begin: what lies at path is put aside --> open -- end: stop frame --> closed
type file struct {
	*framestream.Writer // nil: closed

	path string
	most int64         // octets; 0: no bound
	age  time.Duration // 0: no bound
	keep int

	f        *os.File
	info     os.FileInfo // of the last one that was begun; nil: none was
	began    time.Time
	size     int64 // octets, with the frame that is to end it
	messages int
}

// newFile begins the file of a Config.
func newFile(c Config) (*file, error) {
	f := &file{path: c.File, age: c.FileAge, most: max(0, or(c.FileSize, defaultFileSize)), keep: max(0, or(c.FileKeep, defaultFileKeep))}
	if real, err := filepath.EvalSymlinks(f.path); err == nil {
		f.path = real
	}
	return f, f.begin()
}

// begin puts aside what lies at path and begins a file there.
func (f *file) begin() error {
	if err := f.putAside(); err != nil {
		return fmt.Errorf("put dnstap file aside: %w", err)
	}
	var err error
	if f.f, err = os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE, 0o640); err != nil {
		return fmt.Errorf("open dnstap file: %w", err)
	}
	f.began, f.size, f.messages = time.Now(), int64(ends), 0
	if f.info, err = f.f.Stat(); err == nil {
		f.Writer, err = framestream.NewWriter(f.f, &framestream.WriterOptions{ContentTypes: [][]byte{dnstap.FSContentType}})
	}
	if err != nil {
		f.abandon()
		return fmt.Errorf("begin dnstap file %s: %w", f.path, err)
	}
	return nil
}

// putAside makes room at path: the file there becomes path.1, that one path.2, and so on.
func (f *file) putAside() error {
	info, err := regular(f.path)
	switch {
	case err != nil || info == nil || info.Size() == 0:
		return err
	case f.info != nil && !os.SameFile(f.info, info):
		return fmt.Errorf("%s was begun by another process, expected the one that was written here, or none", f.path)
	}
	name := func(i int) string { return fmt.Sprintf("%s.%d", f.path, i) }
	for i := f.keep + 1; ; i++ { // more were kept once
		if info, err := regular(name(i)); err != nil || info == nil || os.Remove(name(i)) != nil {
			break
		}
	}
	if f.keep == 0 {
		return os.Remove(f.path)
	}
	for i := 1; i <= f.keep; i++ { // before any is moved
		if _, err := regular(name(i)); err != nil {
			return err
		}
	}
	for i := f.keep - 1; i >= 0; i-- {
		from, to := name(i), name(i+1)
		if i == 0 {
			from = f.path
		}
		if err := os.Rename(from, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// regular tells of the file at path; nil when there is none. Anything but a regular file
// is an error: to open a pipe would wait for its reader.
func regular(path string) (os.FileInfo, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is a %s, expected a regular file or none", path, info.Mode())
	}
	return info, err
}

// WriteFrame writes a payload.
func (f *file) WriteFrame(payload []byte) (int, error) {
	f.size += int64(frameSize + len(payload))
	f.messages++
	return f.Writer.WriteFrame(payload)
}

// full tells whether a payload of n octets belongs into the next file.
func (f *file) full(n int) bool { return f.most > 0 && f.size+int64(frameSize+n) > f.most }

// look tells whether the file has become too old. One without messages has not.
func (f *file) look() (next bool, err error) {
	return f.age > 0 && f.messages > 0 && time.Since(f.began) >= f.age, nil
}

// next goes over to another file.
func (f *file) next() error {
	if err := f.end(); err != nil {
		return err
	}
	return f.begin()
}

// end ends the file in order.
func (f *file) end() error {
	err := errors.Join(f.Writer.Close(), f.f.Close())
	f.Writer, f.f = nil, nil
	if err != nil {
		return fmt.Errorf("end dnstap file %s: %w", f.path, err)
	}
	return nil
}

// abandon closes a file after an error, which is known.
func (f *file) abandon() {
	if f.f != nil {
		f.f.Close()
	}
	f.Writer, f.f = nil, nil
}

// Reopen has the file put aside and begun anew, or begun where it was moved from, also
// after an error. It does not wait for that. Of a socket it does nothing.
func (t *Tap) Reopen() {
	if t.file == nil {
		return
	}
	select {
	case t.reopen <- struct{}{}:
	default: // it is due
	}
}

// runFile writes until ctx ends. After an error nothing more is written, since a frame may
// be there in part and what follows would not be understood, until Reopen.
func (t *Tap) runFile(ctx context.Context) error {
	for {
		t.connected.Store(true)
		err := t.pump(ctx, t.file)
		if err == nil {
			return t.file.end()
		}
		t.connected.Store(false)
		t.file.abandon()
		t.log.Error("dnstap file cannot be written, nothing more goes there until SIGHUP or the next start", "file", t.config.File, "error", err)
		for t.file.f == nil {
			select {
			case s := <-t.queue.wait:
				t.drop(s)
			case <-ctx.Done():
				return nil
			case <-t.reopen:
				if err := t.file.begin(); err != nil {
					t.log.Error("dnstap file cannot be begun anew", "file", t.config.File, "error", err)
				}
			}
		}
		t.log.Info("dnstap file is begun anew", "file", t.config.File)
	}
}
