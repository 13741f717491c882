package follow

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/zonecast/zonecast/snapshot"
)

// Fetcher gets snapshot files.
type Fetcher interface {
	// Fetch puts the file that ref points at into dir and returns its path; the file
	// is the caller's to remove. Its SHA-256 is ref.ID. progress, unless nil, is told
	// how many octets of all are there, now and then, by one goroutine.
	Fetch(ctx context.Context, ref snapshot.Ref, dir string, progress func(done, total int64)) (path string, err error)
}

// ErrContent is wrapped when a file could be had but is not what ref says.
var ErrContent = errors.New("not the snapshot that was signed")

// ContentError is an ErrContent that has the beginning of the file to show.
type ContentError struct {
	Err  error
	Head []byte // at most MaxEvidence octets
}

func (e *ContentError) Error() string { return e.Err.Error() }

// Unwrap gives Err.
func (e *ContentError) Unwrap() error { return e.Err }

// Defaults of an HTTP, and bounds on what a Ref can make it do.
const (
	// DefaultMaxSize is four times a snapshot of ten million RRsets of 100 octets.
	DefaultMaxSize = 4 << 30
	// DefaultStall is longer than a TCP connection needs to survive the loss of
	// several segments in a row (RFC 6298: 1 + 2 + 4 s).
	DefaultStall = 15 * time.Second
	// minRate, in octets a second, bounds the time of an attempt by size/minRate: a
	// server that drips is left for another.
	minRate = 32 << 10
	maxURLs = 16
	// partSuffix ends the name of a file that is not yet whole.
	partSuffix = ".part"
)

// HTTP fetches from the URLs of a Ref, one after another in random order, so that
// many hosts spread over them. What one attempt got the next one goes on from, also
// after a restart; a file that turns out wrong is fetched anew from the next URL. What
// the disk has no room for is not begun, and not left there.
type HTTP struct {
	Client  *http.Client  // nil means one of its own without proxy and cookies
	MaxSize int64         // octets of the largest file taken; zero means DefaultMaxSize
	Stall   time.Duration // an attempt ends when nothing comes for so long; zero means DefaultStall
	Log     *slog.Logger  // told of attempts that did not work; nil discards
}

// Fetch is Fetcher.Fetch.
func (h HTTP) Fetch(ctx context.Context, ref snapshot.Ref, dir string, progress func(done, total int64)) (string, error) {
	fail := func(err error) (string, error) {
		return "", fmt.Errorf("fetch snapshot %s of %d octets: %w", short(ref.ID), ref.Size, err)
	}
	most := h.MaxSize
	if most == 0 {
		most = DefaultMaxSize
	}
	switch {
	case ref.ID.IsZero():
		return fail(errors.New("no snapshot is offered"))
	case ref.Size <= 0 || ref.Size > most:
		return fail(fmt.Errorf("%w: expected 1 to %d octets", ErrContent, most))
	case len(ref.URLs) == 0:
		return fail(errors.New("no URL is offered"))
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fail(err)
	}
	whole := filepath.Join(dir, ref.ID.String())
	path := whole + partSuffix
	_ = os.Rename(whole, path) // got by a run that ended before it could be used
	sweep(dir, filepath.Base(path))
	var errs []error
	urls := ref.URLs[:min(len(ref.URLs), maxURLs)]
	for _, i := range rand.Perm(len(urls)) {
		err := h.attempt(ctx, ref, urls[i], path, progress)
		if err == nil {
			if err := os.Rename(path, whole); err != nil {
				return fail(err)
			}
			return whole, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", clip(urls[i]), err))
		if h.Log != nil && ctx.Err() == nil {
			h.Log.Debug("snapshot not had from here", "url", clip(urls[i]), "error", err)
		}
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			_ = os.Remove(path) // what else lies on the disk needs the room more
		}
		var local *os.PathError
		if ctx.Err() != nil || errors.As(err, &local) {
			break // another URL would not help
		}
	}
	return fail(errors.Join(errs...))
}

// Base fetches from a server that has snapshots by their ids below a URL, whatever the Ref says.
type Base struct {
	HTTP
	URL string // with a slash at its end
}

// Fetch is Fetcher.Fetch.
func (b Base) Fetch(ctx context.Context, ref snapshot.Ref, dir string, progress func(done, total int64)) (string, error) {
	ref.URLs = []string{b.URL + ref.ID.String()}
	return b.HTTP.Fetch(ctx, ref, dir, progress)
}

// sweep removes what earlier fetches left in dir, but for the file called keep.
func sweep(dir, keep string) {
	entries, _ := os.ReadDir(dir) // what cannot be listed cannot be fetched to either, and that will say so
	for _, e := range entries {
		if _, err := snapshot.ParseID(strings.TrimSuffix(e.Name(), partSuffix)); err == nil && e.Name() != keep {
			_ = os.Remove(filepath.Join(dir, e.Name())) // it only takes room
		}
	}
}

// attempt goes on with the file at path from one URL until it is whole and right.
func (h HTTP) attempt(ctx context.Context, ref snapshot.Ref, from, path string, progress func(done, total int64)) (err error) {
	u, err := url.Parse(from)
	if err != nil {
		return err
	}
	if u.Scheme != "http" && u.Scheme != "https" {
		return fmt.Errorf("scheme is %q, expected http or https", u.Scheme)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	have, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	if have > ref.Size {
		have = 0
	}
	if err := Room(filepath.Dir(path), ref.Size-have); err != nil {
		return err
	}
	for {
		if have < ref.Size {
			if err := h.download(ctx, ref, u, f, have, progress); err != nil {
				return err
			}
		}
		err := checkFile(f, ref)
		if err == nil {
			break
		}
		content := &ContentError{err, readHead(f)}
		if err := f.Truncate(0); err != nil { // what is wrong is of no use to the next attempt
			return errors.Join(content, err)
		}
		if have == 0 {
			return content
		}
		have = 0 // what was there may be to blame: torn in a crash, or from another URL
	}
	return f.Sync()
}

// download appends to f, which has the first have octets, what is missing.
func (h HTTP) download(ctx context.Context, ref snapshot.Ref, u *url.URL, f *os.File, have int64, progress func(done, total int64)) error {
	stall := h.Stall
	if stall == 0 {
		stall = DefaultStall
	}
	ctx, cancel := context.WithTimeoutCause(ctx, 2*stall+time.Duration(ref.Size/minRate)*time.Second, fmt.Errorf("less than %d octets a second came", minRate))
	defer cancel()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	watchdog := time.AfterFunc(stall, func() { stop(fmt.Errorf("nothing came for %s", stall)) })
	defer watchdog.Stop()

	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept-Encoding", "identity") // the file is compressed, and its size is known
	if have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
		req.Header.Set("If-Range", etag(ref.ID))
	}
	client := h.Client
	if client == nil {
		transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
		defer transport.CloseIdleConnections()
		client = &http.Client{Transport: transport}
	}
	resp, err := client.Do(req)
	if err != nil {
		return causeOf(ctx, err)
	}
	defer func() { _ = resp.Body.Close() }() // read only: nothing to lose
	switch {
	case resp.StatusCode == http.StatusPartialContent && have > 0:
		if want := fmt.Sprintf("bytes %d-%d/%d", have, ref.Size-1, ref.Size); resp.Header.Get("Content-Range") != want {
			return fmt.Errorf("%w: Content-Range is %q, expected %q", ErrContent, clip(resp.Header.Get("Content-Range")), want)
		}
	case resp.StatusCode == http.StatusOK:
		if resp.ContentLength >= 0 && resp.ContentLength != ref.Size {
			return fmt.Errorf("%w: it has %d octets, expected %d", ErrContent, resp.ContentLength, ref.Size)
		}
		have = 0
	default:
		return fmt.Errorf("status is %s, expected 200 or 206", clip(resp.Status))
	}
	if err := f.Truncate(have); err != nil {
		return err
	}
	if _, err := f.Seek(have, io.SeekStart); err != nil {
		return err
	}
	return copyBody(ctx, f, resp.Body, have, ref.Size, func(done int64) {
		watchdog.Reset(stall)
		if progress != nil {
			progress(done, ref.Size)
		}
	})
}

// copyBody writes what body has to f, up to size octets in all.
func copyBody(ctx context.Context, f *os.File, body io.Reader, done, size int64, step func(done int64)) error {
	buf := make([]byte, 128<<10)
	for {
		n, err := body.Read(buf)
		if done+int64(n) > size {
			return fmt.Errorf("%w: more than the %d octets announced came", ErrContent, size)
		}
		if n > 0 {
			if _, err := f.Write(buf[:n]); err != nil {
				return err
			}
			done += int64(n)
			step(done)
		}
		switch {
		case err == io.EOF && done == size:
			return nil
		case err == io.EOF:
			return fmt.Errorf("it ended after %d octets, expected %d", done, size)
		case err != nil:
			return causeOf(ctx, err)
		}
	}
}

// causeOf is why the context of a request ended, when that is what err comes from.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// checkFile compares size and SHA-256 of a file with ref.
func checkFile(f *os.File, ref snapshot.Ref) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(f, ref.Size+1))
	if err != nil {
		return err
	}
	if n != ref.Size {
		return fmt.Errorf("%w: it has %d octets, expected %d", ErrContent, n, ref.Size)
	}
	if got := snapshot.ID(sum.Sum(nil)); got != ref.ID {
		return fmt.Errorf("%w: its sha256 is %s…, expected %s…", ErrContent, short(got), short(ref.ID))
	}
	return nil
}

// etag is the entity tag under which publishers serve a snapshot (RFC 9110 §8.8.3).
func etag(id snapshot.ID) string { return `"` + id.String() + `"` }

// short is enough of an id for people.
func short(id snapshot.ID) string { return id.String()[:12] }

// Local takes snapshots from a publisher's directory on this machine, where they
// lie as SnapshotFile says. It is for the control plane, which may read what the
// publisher wrote; hosts fetch.
type Local struct {
	Dir string // publisher's Config.Dir
}

// SnapshotFile is where in a publisher's directory a snapshot lies.
func SnapshotFile(dir string, id snapshot.ID) string {
	return filepath.Join(dir, id.String()+".snapshot")
}

// Fetch is Fetcher.Fetch. It links the file into dir, or copies it.
func (l Local) Fetch(ctx context.Context, ref snapshot.Ref, dir string, progress func(done, total int64)) (path string, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("take snapshot %s: %w", short(ref.ID), err)
		}
	}()
	from := SnapshotFile(l.Dir, ref.ID)
	src, err := os.Open(from)
	if err != nil {
		return "", err
	}
	defer func() { _ = src.Close() }() // read only
	if err := checkFile(src, ref); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path = filepath.Join(dir, ref.ID.String())
	_ = os.Remove(path) // left by a fetch that was cut short; Link tells if it is still there
	if os.Link(from, path) == nil {
		return path, nil
	}
	dst, err := os.Create(path)
	if err != nil {
		return "", err
	}
	_, err = src.Seek(0, io.SeekStart)
	if err == nil {
		err = copyBody(ctx, dst, src, 0, ref.Size, func(done int64) {
			if progress != nil {
				progress(done, ref.Size)
			}
		})
	}
	if err = errors.Join(err, dst.Close()); err != nil {
		return "", errors.Join(err, os.Remove(path))
	}
	return path, nil
}

// FirstOf asks each in order until one has the file.
type FirstOf []Fetcher

// Fetch is Fetcher.Fetch.
func (f FirstOf) Fetch(ctx context.Context, ref snapshot.Ref, dir string, progress func(done, total int64)) (string, error) {
	var errs []error
	for _, one := range f {
		path, err := one.Fetch(ctx, ref, dir, progress)
		if err == nil {
			return path, nil
		}
		if errs = append(errs, err); ctx.Err() != nil {
			break
		}
	}
	if len(errs) == 0 {
		return "", fmt.Errorf("fetch snapshot %s: nobody to ask", short(ref.ID))
	}
	return "", errors.Join(errs...)
}
