package zoneload

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/zonecast/zonecast/internal/zonefile"
	"github.com/zonecast/zonecast/record"
)

// Zones is what Load read. It does not change any more.
type Zones struct {
	Zones []Zone // in the order of the paths
}

// Zone is one zone file.
type Zone struct {
	Path    string
	Apex    record.Name
	Records int // without duplicates
	Sets    int
	// Files is every file that was read, as paths, the zone file first: a change in
	// any of them may change the zone.
	Files []string

	body string // see body.go
}

// Load reads the zone files, several at the same time. A file's origin is what its
// name says (zonefile.Origin); $INCLUDE finds files below its directory only. The
// error is that of the first file, in the order of paths, that has one.
func Load(ctx context.Context, paths []string) (*Zones, error) {
	z := &Zones{Zones: make([]Zone, len(paths))}
	errs := make([]error, len(paths))
	order := largestFirst(paths)
	var next, failed atomic.Int64 // an index of order; the least index of an error
	failed.Store(int64(len(paths)))
	work := func() {
		var g gatherer
		for {
			n := int(next.Add(1)) - 1
			if n >= len(order) || ctx.Err() != nil {
				return
			}
			// A file before the one that failed may have the error to report.
			if i := order[n]; int64(i) < failed.Load() {
				if errs[i] = g.load(ctx, &z.Zones[i], paths[i]); errs[i] != nil {
					lower(&failed, int64(i))
				}
			}
		}
	}
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(paths)) {
		wg.Go(work)
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read %d zone files: %w", len(paths), err)
	}
	if i := failed.Load(); i < int64(len(paths)) {
		return nil, errs[i]
	}
	return z, nil
}

// lower makes v the value when it is less.
func lower(a *atomic.Int64, v int64) {
	for old := a.Load(); v < old && !a.CompareAndSwap(old, v); old = a.Load() {
	}
}

// largestFirst gives the indices of paths so that no large file is left for the
// end, when the other workers have nothing to do.
func largestFirst(paths []string) []int {
	order, sizes := make([]int, len(paths)), make([]int64, len(paths))
	for i, path := range paths {
		order[i] = i
		if st, err := os.Stat(path); err == nil { // else reading it says why not
			sizes[i] = st.Size()
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return int(min(1, max(-1, sizes[b]-sizes[a]))) })
	return order
}

// errRefused ends a reading early: zonefile says why.
var errRefused = errors.New("is refused")

// load reads one file to z. When anything is wrong with it zonefile reads it again
// and says what: the checks here need no places and no words.
func (g *gatherer) load(ctx context.Context, z *Zone, path string) error {
	dir, file := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	fsys := os.DirFS(dir)
	files, err := g.read(ctx, z, fsys, file)
	z.Path = path
	for _, f := range files {
		z.Files = append(z.Files, filepath.Join(dir, f))
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	if _, why := zonefile.Parse(fsys, file, record.Provenance{}); why != nil {
		return why
	}
	return fmt.Errorf("%s: %w, and was not a moment later: it is being changed, read it again", path, err)
}

// read scans a file and makes the body of z.
func (g *gatherer) read(ctx context.Context, z *Zone, fsys fs.FS, file string) ([]string, error) {
	if _, err := zonefile.SourceOf(file); err != nil {
		return nil, err
	}
	origin, err := zonefile.Origin(file)
	if err != nil {
		return nil, err
	}
	size := int64(0)
	if st, err := fs.Stat(fsys, file); err == nil { // else the scan says why not
		size = st.Size()
	}
	g.reset(ctx, size)
	files, err := g.scanner.Scan(fsys, file, origin, g.add)
	if err != nil {
		return files, err
	}
	return files, g.finish(z)
}
