package follow

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/zonecast/zonecast/snapshot"
)

// fetch is a snapshot on its way. It runs beside the watch, which goes on being
// read: a slow line must not lose the deltas that lead on from the snapshot.
type fetch struct {
	target target             // whose snapshot it is
	large  *snapshot.DeltaRef // it is no snapshot, but this
	cancel context.CancelFunc
	// Below is set when it is over.
	path    string
	dataset *snapshot.Dataset
	encoded []byte // of a large delta
	took    time.Duration
	err     error
	head    []byte // of a file that is not the snapshot
}

// start begins to fetch the snapshot of t.
func (f *Follower) start(ctx context.Context, t target) {
	ctx, cancel := context.WithCancel(ctx)
	job := &fetch{target: t, cancel: cancel}
	f.fetch = job
	f.cfg.Log.Info("fetching snapshot", "dataset", f.cfg.Dataset, "version", t.snapshot.Version, "id", short(t.snapshot.ID), "size", t.snapshot.Size, "have", f.at.Version())
	go func() {
		defer cancel()
		job.run(ctx, f.cfg, f.dir)
		f.fetched <- job // has room for the one that is under way
	}()
}

// run fetches and reads, which for a large snapshot takes a while, too.
func (j *fetch) run(ctx context.Context, cfg Config, dir string) {
	began := time.Now()
	j.path, j.err = cfg.Fetcher.Fetch(ctx, j.target.snapshot, dir, cfg.Progress)
	j.took = time.Since(began)
	if j.err != nil {
		var content *ContentError
		if errors.As(j.err, &content) {
			j.head = content.Head
		}
		return
	}
	j.dataset, j.err = readFile(ctx, j.path, j.target.snapshot, cfg.Dataset)
	var local *os.PathError
	switch {
	case j.err == nil:
	case ctx.Err() != nil:
		j.err = errors.Join(ctx.Err(), os.Remove(j.path))
	case errors.As(j.err, &local): // our own disk
		j.err = errors.Join(j.err, os.Remove(j.path))
	default:
		j.head = headOf(j.path)
		j.err = errors.Join(fmt.Errorf("%w: %w", ErrContent, j.err), os.Remove(j.path))
	}
}

// headOf is the beginning of a file, as evidence; nil when it cannot be read.
func headOf(path string) []byte {
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer func() { _ = file.Close() }() // read only
	return readHead(file)
}

func readHead(r io.ReaderAt) []byte {
	b, _ := io.ReadAll(io.NewSectionReader(r, 0, MaxEvidence)) // what there is
	return b
}

// readFile reads and checks a snapshot file; the end of ctx ends it, too.
func readFile(ctx context.Context, path string, ref snapshot.Ref, dataset string) (*snapshot.Dataset, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // read only
	d, err := snapshot.Read(endable{ctx, file}, ref)
	if err != nil {
		return nil, err
	}
	if d.Name() != dataset {
		return nil, fmt.Errorf("snapshot is of dataset %s, expected %s", d.Name(), dataset)
	}
	return d, nil
}

// endable reads until its context ends: a large snapshot takes half a minute to read, and nobody
// waits for one that is not wanted any more.
type endable struct {
	ctx context.Context
	io.ReaderAt
}

func (e endable) ReadAt(b []byte, at int64) (int, error) {
	if err := e.ctx.Err(); err != nil {
		return 0, err
	}
	return e.ReaderAt.ReadAt(b, at)
}

// finish takes in what a fetch brought.
func (f *Follower) finish(ctx context.Context, job *fetch) error {
	if job.large != nil {
		return f.finishLarge(ctx, job)
	}
	ref := job.target.snapshot
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(job.err, ErrContent):
		f.refuseWith(KindSnapshot, ref.Version, job.err, job.head)
		f.failed = ref.ID
		return nil
	case job.err != nil:
		f.refuse(KindUnreachable, ref.Version, job.err)
		f.failed = ref.ID
		return nil
	}
	defer func() { _ = os.Remove(job.path) }() // it only takes room, and the next fetch sweeps
	if !f.believes(job.target.manifest) {
		return nil // somebody else was to be believed when it was begun
	}
	if !f.isAhead(ref) {
		f.aside = job.dataset
		return nil
	}
	err := f.replace(ctx, Reset{Dataset: job.dataset, Path: job.path, Manifest: job.target.manifest, Took: job.took, Size: ref.Size})
	if err == nil && f.at == job.dataset {
		f.cfg.Log.Info("snapshot taken", "dataset", f.cfg.Dataset, "version", ref.Version, "id", short(ref.ID), "took", job.took)
	}
	return err
}

// abandon ends a fetch that is under way and waits for it.
func (f *Follower) abandon() {
	if f.fetch == nil {
		return
	}
	f.fetch.cancel()
	<-f.fetched
	if f.fetch.err == nil && f.fetch.large == nil {
		_ = os.Remove(f.fetch.path) // it only takes room
	}
	f.fetch = nil
}
